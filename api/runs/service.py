"""What the run routes read and write. Each function is one short use of a session."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, load_only

from api.db.tables import CheckpointRow, EvaluationRow, RunEventRow, RunRow
from api.errors import InvalidRequestError, NotFoundError
from api.parameters import FilterText
from api.runs.views import (
    SUMMARY_COLUMNS,
    checkpoint_view,
    history_entry,
    run_summary,
    run_view,
)
from api.runs.waiting import why_waits
from pmae.schema import (
    CheckpointList,
    History,
    ProblemField,
    Run,
    RunKind,
    RunPage,
    RunState,
)


class RunFilters(BaseModel):
    """Which runs a list shows."""

    model_config = ConfigDict(frozen=True)

    state: RunState | None = Field(default=None, description="Only runs in this state.")
    kind: RunKind | None = Field(default=None, description="Only runs of this kind.")
    method: FilterText | None = Field(default=None, description="Only this method: pmae or mae.")
    dataset: FilterText | None = Field(default=None, description="Only this data set.")
    tag: FilterText | None = Field(default=None, description="Only runs with this tag.")
    name: FilterText | None = Field(
        default=None, description="Only runs whose name contains this text, in any case."
    )
    limit: Annotated[int, Field(ge=1, le=500)] = Field(
        default=50, description="Most runs in the answer."
    )
    cursor: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


def find_run(session: Session, run_id: str) -> RunRow:
    """The row of a run.

    Raises:
        NotFoundError: there is no such run.
    """
    row = session.scalar(select(RunRow).where(RunRow.id == run_id, RunRow.deleted_at.is_(None)))
    if row is None:
        raise run_not_found(run_id)
    return row


def find_run_number(session: Session, run_id: str) -> int:
    """The number by which other tables know a run.

    Raises:
        NotFoundError: there is no such run.
    """
    number = session.scalar(
        select(RunRow.number).where(RunRow.id == run_id, RunRow.deleted_at.is_(None))
    )
    if number is None:
        raise run_not_found(run_id)
    return number


def run_not_found(run_id: str) -> NotFoundError:
    """What a run that does not exist is answered with."""
    return NotFoundError(
        f"there is no run {run_id}; GET /api/v1/runs lists them", code="run_not_found"
    )


def get_run(session: Session, run_id: str, *, worker_silence_seconds: float) -> Run:
    """A run in full. A queued one says why it has not begun.

    Raises:
        NotFoundError: there is no such run.
    """
    row = find_run(session, run_id)
    evaluations = session.scalars(
        select(EvaluationRow)
        .where(EvaluationRow.run_number == row.number)
        .order_by(EvaluationRow.step, EvaluationRow.key)
    ).all()
    run = run_view(row, evaluations)
    if run.state == "queued":
        waits = why_waits(session, row, silence_seconds=worker_silence_seconds)
        run = run.model_copy(update={"reason": f"{run.reason}; {waits}" if run.reason else waits})
    return run


def list_runs(session: Session, filters: RunFilters) -> RunPage:
    """A page of runs, newest first.

    Raises:
        InvalidRequestError: the cursor is not one of this list's.
    """
    query = _filtered(select(RunRow).where(RunRow.deleted_at.is_(None)), session, filters)
    if filters.cursor is not None:
        query = query.where(RunRow.number < _read_cursor(filters.cursor))
    rows = session.scalars(
        query.options(load_only(*SUMMARY_COLUMNS, raiseload=True))
        .order_by(RunRow.number.desc())
        .limit(filters.limit + 1)
    ).all()
    page = rows[: filters.limit]
    more = len(rows) > filters.limit
    return RunPage(
        items=[run_summary(row) for row in page],
        next_cursor=_write_cursor(page[-1].number) if more else None,
    )


def _filtered(query: Select[RunRow], session: Session, filters: RunFilters) -> Select[RunRow]:
    for column, value in (
        (RunRow.state, filters.state),
        (RunRow.kind, filters.kind),
        (RunRow.method, filters.method),
        (RunRow.dataset, filters.dataset),
    ):
        if value is not None:
            query = query.where(column == value)
    if filters.name is not None:
        query = query.where(RunRow.name.icontains(filters.name, autoescape=True))
    if filters.tag is not None:
        unnest = (
            func.json_array_elements_text
            if session.get_bind().dialect.name == "postgresql"
            else func.json_each
        )
        tags = unnest(RunRow.tags).table_valued("value", name="tag")
        query = query.where(select(tags.c.value).where(tags.c.value == filters.tag).exists())
    return query


def _write_cursor(number: int) -> str:
    return base64.urlsafe_b64encode(f"before:{number}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    prefix, _, number = text.partition(":")
    if prefix != "before" or not number.isdecimal() or len(number) > 18:
        message = f"{cursor!r} is not a cursor; valid is the next_cursor of a page before"
        raise InvalidRequestError(message, fields=[ProblemField(pointer="cursor", message=message)])
    return int(number)


def get_history(session: Session, run_id: str, *, after: int, limit: int) -> History:
    """What happened to a run after the entry ``after``, oldest first.

    Raises:
        NotFoundError: there is no such run.
    """
    number = find_run_number(session, run_id)
    rows = session.scalars(
        select(RunEventRow)
        .where(RunEventRow.run_number == number, RunEventRow.id > after)
        .order_by(RunEventRow.id)
        .limit(limit)
    ).all()
    return History(items=[history_entry(row) for row in rows])


def list_checkpoints(session: Session, run_id: str) -> CheckpointList:
    """A run's checkpoints, newest first.

    Raises:
        NotFoundError: there is no such run.
    """
    number = find_run_number(session, run_id)
    rows = session.scalars(
        select(CheckpointRow)
        .where(CheckpointRow.run_number == number)
        .order_by(CheckpointRow.step.desc())
    ).all()
    return CheckpointList(items=[checkpoint_view(row, run_id) for row in rows])
