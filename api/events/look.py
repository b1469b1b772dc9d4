"""One look at the database for all open event streams, and what each of them gets of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session, load_only

from api.db.tables import RunEventRow, RunRow
from api.events.listener import Listener, Message, encode
from api.events.order import EventOrder
from api.runs.views import SUMMARY_COLUMNS, history_entry, run_summary
from pmae.schema import TERMINAL_STATES, Progress, RunSummary
from pmae.schema.runs import ServiceEvent

MAX_ROWS = 2_000
"""Events read in one look."""


@dataclass(kw_only=True)
class Found:
    """News that one look found for the streams of one run, or for those of all runs.

    Attributes:
        events: by rising id.
        progress: by run number: a key that changes when a message is due, and the message.
        complete: there are no more events than these for now.
        complete_to: every event up to this id is in ``events``, or was before; None: not known.
        over: nothing more will come: the run has ended, or is gone.
    """

    events: list[Message] = field(default_factory=list)
    progress: dict[int, tuple[object, bytes]] = field(default_factory=dict)
    complete: bool = True
    complete_to: int | None = None
    over: bool = False


def look(
    session: Session, order: EventOrder, listeners: Collection[Listener]
) -> dict[int | None, Found]:
    """Read what is new for any of ``listeners``.

    Returns:
        By run number; None: for the streams of all runs. The key None is missing until the order
        of events is known.
    """
    found: dict[int | None, Found] = {}
    of_runs = [one for one in listeners if one.run_number is not None]
    if of_runs:
        found.update(_look_at_runs(session, of_runs))
    of_all = [one.last_id for one in listeners if one.run_number is None]
    if of_all:
        order.look(session)
        if order.complete_to is not None:
            found[None] = _look_at_all(session, order, min(of_all), order.complete_to)
    return found


def queue_new(listener: Listener, found: Found) -> None:
    """Queue for a listener what is new to it."""
    if listener.ended:
        return
    if listener.wants("progress"):
        _queue_progress(listener, found)
    for event in found.events:
        if event.id <= listener.last_id:
            continue
        if listener.wants(event.type) and event.id not in listener.known:
            if not listener.has_room:
                return
            listener.put(event.content)
        listener.last_id = event.id
    if not found.complete:
        return
    if found.complete_to is not None:
        listener.last_id = max(listener.last_id, found.complete_to)
        if not listener.named:
            listener.put(encode(event_id=listener.last_id))
            listener.named = True
    if found.over:
        listener.end()


def _queue_progress(listener: Listener, found: Found) -> None:
    for number, (step, message) in found.progress.items():
        if listener.progress.get(number) != step:
            listener.put(message)
    listener.progress = {number: step for number, (step, _) in found.progress.items()}


def _look_at_runs(session: Session, listeners: Sequence[Listener]) -> dict[int | None, Found]:
    """Read the rows before the events, so that a state that was read has its events too.

    Every writer updates the run's row before it adds an event, in one transaction; so the events of
    one run become visible in the order of their ids, and "greater than the last id" misses none.
    """
    oldest: dict[int, int] = {}
    ids: dict[str, int] = {}
    for one in listeners:
        assert one.run_number is not None
        assert one.run_id is not None
        ids[one.run_id] = one.run_number
        oldest[one.run_number] = min(one.last_id, oldest.get(one.run_number, one.last_id))
    rows = session.execute(
        select(RunRow.id, RunRow.number, RunRow.state, RunRow.progress).where(
            RunRow.number.in_(oldest), RunRow.deleted_at.is_(None)
        )
    ).all()
    new = (
        and_(RunEventRow.run_number == number, RunEventRow.id > last_id)
        for number, last_id in oldest.items()
    )
    events = session.scalars(
        select(RunEventRow).where(or_(*new)).order_by(RunEventRow.id).limit(MAX_ROWS)
    ).all()
    complete = len(events) < MAX_ROWS
    found: dict[int | None, Found] = {
        number: Found(complete=complete, over=True) for number in oldest
    }
    for event in events:
        found[event.run_number].events.append(_run_message(event))
    for row in rows:
        data = Progress.model_validate(row.progress).model_dump_json()
        found[row.number].progress[row.number] = (data, encode("progress", data))
        found[row.number].over = row.state in TERMINAL_STATES
    gone = ids.keys() - {row.id for row in rows}
    if complete and gone:
        # The event that reports a deletion belongs to no row of a run.
        deleted = and_(RunEventRow.run_number.is_(None), RunEventRow.key.in_(gone))
        for event in session.scalars(select(RunEventRow).where(deleted)):
            assert event.key is not None
            found[ids[event.key]].events.append(_run_message(event))
    return found


def _look_at_all(session: Session, order: EventOrder, oldest: int, complete_to: int) -> Found:
    rows = session.scalars(
        select(RunEventRow)
        # Deletions are events of no run.
        .outerjoin(RunRow, RunRow.number == RunEventRow.run_number)
        .where(
            RunEventRow.id > oldest,
            RunEventRow.id <= complete_to,
            RunRow.deleted_at.is_(None),
        )
        .order_by(RunEventRow.id)
        .limit(MAX_ROWS)
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
    events = (_service_message(row, runs) for row in rows)
    return Found(
        events=[event for event in events if event is not None],
        progress={
            number: (_step(run.progress), encode("progress", run.model_dump_json()))
            for number, run in runs.items()
            if run.state == "running"
        },
        complete=len(rows) < MAX_ROWS and not order.behind,
        complete_to=complete_to,
    )


def _step(progress: Progress) -> tuple[str | None, int | None, int]:
    """Stage, epoch, per cent: what of a progress is worth a message to everybody."""
    per_cent = 100 * (progress.done or 0) // progress.total if progress.total else 0
    return progress.stage, progress.epoch, per_cent


def _run_message(row: RunEventRow) -> Message:
    content = encode(row.type, history_entry(row).model_dump_json(), event_id=row.id)
    return Message(row.id, row.type, content)


def _service_message(row: RunEventRow, runs: Mapping[int, RunSummary]) -> Message | None:
    """Make the message for the streams of all runs; None if its run has been deleted meanwhile."""
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
    return Message(row.id, row.type, encode(row.type, event.model_dump_json(), event_id=row.id))
