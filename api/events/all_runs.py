"""Following all runs on one stream: their events, and progress in coarse steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, load_only

from api.db.tables import RunEventRow, RunRow
from api.events.order import EventOrder
from api.events.outbox import Outbox, encode_message
from api.runs.views import SUMMARY_COLUMNS, history_entry, run_summary
from pmae.schema import RunSummary
from pmae.schema.runs import ServiceEvent

_MOST_ROWS = 2_000
"""Events read in one look."""
_Step = tuple[str | None, int | None, int]
"""Stage, epoch, per cent: what of a progress is worth a message to everybody."""


@dataclass(eq=False, kw_only=True)
class ServiceListener(Outbox):
    """One open stream of all runs.

    Attributes:
        last_id: of the newest event that it was sent, or that is none of its.
        told: later events that it is not to be sent.
        types: of the messages it wants; None: all.
        progress: what it was told last of each running run.
    """

    last_id: int
    told: frozenset[int]
    types: frozenset[str] | None
    progress: dict[int, _Step] = field(default_factory=dict)

    def wants(self, kind: str) -> bool:
        """Whether it asked for messages of this type."""
        return self.types is None or kind in self.types


@dataclass(frozen=True)
class ServiceLook:
    """What one look at the database found of all runs."""

    events: Sequence[tuple[int, str, bytes]]
    """Id, type and message, by rising id."""
    running: Sequence[RunSummary]
    complete_to: int
    """Everything up to this id is in ``events``, if ``complete``."""
    complete: bool


def look_at_service(
    session: Session, order: EventOrder, listeners: Collection[ServiceListener]
) -> ServiceLook | None:
    """What is new for any of ``listeners``; None if that is not known yet."""
    order.look(session)
    if order.complete_to is None:
        return None
    oldest = min(listener.last_id for listener in listeners)
    rows = session.scalars(
        select(RunEventRow)
        # Deletions are events of no run.
        .outerjoin(RunRow, RunRow.number == RunEventRow.run_number)
        .where(
            RunEventRow.id > oldest,
            RunEventRow.id <= order.complete_to,
            RunRow.deleted_at.is_(None),
        )
        .order_by(RunEventRow.id)
        .limit(_MOST_ROWS)
    ).all()
    numbers = {row.run_number for row in rows if row.run_number is not None}
    runs = {
        run.number: run_summary(run)
        for run in session.scalars(
            select(RunRow)
            .where(
                or_(RunRow.number.in_(numbers), RunRow.state == "running"),
                RunRow.deleted_at.is_(None),
            )
            .options(load_only(*SUMMARY_COLUMNS, raiseload=True))
        )
    }
    return ServiceLook(
        events=[
            (row.id, row.type, message)
            for row in rows
            if (message := _event_message(row, runs)) is not None
        ],
        running=[run for run in runs.values() if run.state == "running"],
        complete_to=order.complete_to,
        complete=len(rows) < _MOST_ROWS and not order.behind,
    )


def tell_of_service(listener: ServiceListener, look: ServiceLook) -> None:
    """Queue what is new for a listener."""
    if listener.ended:
        return
    for event_id, kind, message in look.events:
        if event_id <= listener.last_id:
            continue
        if listener.wants(kind) and event_id not in listener.told:
            if not listener.has_room:
                return
            listener.put(message)
        listener.last_id = event_id
    if look.complete:
        listener.last_id = max(listener.last_id, look.complete_to)
    if listener.wants("progress"):
        _tell_progress(listener, look.running)


def _tell_progress(listener: ServiceListener, running: Sequence[RunSummary]) -> None:
    steps = {run.number: _step(run) for run in running}
    for run in running:
        if listener.progress.get(run.number) != steps[run.number]:
            listener.put(encode_message("progress", run.model_dump_json()))
    listener.progress = steps


def _step(run: RunSummary) -> _Step:
    progress = run.progress
    per_cent = 100 * (progress.done or 0) // progress.total if progress.total else 0
    return progress.stage, progress.epoch, per_cent


def _event_message(row: RunEventRow, runs: Mapping[int, RunSummary]) -> bytes | None:
    """None: of a run that was deleted since it was looked for."""
    if row.run_number is None:
        run_id, run = row.key, None
    elif row.run_number in runs:
        run = runs[row.run_number]
        run_id = run.id
    else:
        return None
    event = ServiceEvent.model_validate(
        {**history_entry(row).model_dump(), "run_id": run_id, "run": run}
    )
    return encode_message(row.type, event.model_dump_json(), event_id=row.id)
