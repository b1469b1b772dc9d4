"""Queries of the run routes. Each function uses a session briefly."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.db.tables import EvaluationRow, RunEventRow, RunRow
from api.http.errors import NotFoundError
from api.queue.waiting import why_waits
from api.runs.views import history_entry, run_view
from pmae.schema import History, Run


def find_run(session: Session, run_id: str) -> RunRow:
    """Find the row of a run.

    Raises:
        NotFoundError: there is no such run.
    """
    row = session.scalar(select(RunRow).where(RunRow.id == run_id, RunRow.deleted_at.is_(None)))
    if row is None:
        raise run_not_found(run_id)
    return row


def find_run_number(session: Session, run_id: str) -> int:
    """Find a run's number, by which other tables refer to it.

    Raises:
        NotFoundError: there is no such run.
    """
    number = session.scalar(
        select(RunRow.number).where(RunRow.id == run_id, RunRow.deleted_at.is_(None))
    )
    if number is None:
        raise run_not_found(run_id)
    return number


def find_run_numbers(session: Session, run_ids: Sequence[str]) -> dict[int, str]:
    """Map the numbers of runs to their ids, in the order given.

    Raises:
        NotFoundError: one of them does not exist.
    """
    rows = session.execute(
        select(RunRow.id, RunRow.number).where(RunRow.id.in_(run_ids), RunRow.deleted_at.is_(None))
    )
    numbers = {row.id: row.number for row in rows}
    for run_id in run_ids:
        if run_id not in numbers:
            raise run_not_found(run_id)
    return {numbers[run_id]: run_id for run_id in run_ids}


def run_not_found(run_id: str) -> NotFoundError:
    """Build the error for a run that does not exist."""
    return NotFoundError(
        f"there is no run {run_id}; GET /api/v1/runs lists them", code="run_not_found"
    )


def get_run(session: Session, run_id: str, *, worker_silence_seconds: float) -> Run:
    """Read a run in full. The ``reason`` of a queued one says why it has not started.

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


def get_history(session: Session, run_id: str, *, after: int, limit: int) -> History:
    """List the history of a run after the entry with the id ``after``, oldest first.

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
