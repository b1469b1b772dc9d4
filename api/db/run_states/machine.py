"""The one statement that changes a run's state, with its history entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.orm import Session

from api.db.clock import database_now
from api.db.errors import RunNotFoundError
from api.db.tables import RunEventRow, RunRow
from pmae.schema import RunState

TRANSITIONS: frozenset[tuple[RunState, RunState]] = frozenset(
    {
        ("queued", "running"),
        ("queued", "cancelled"),
        ("running", "succeeded"),
        ("running", "failed"),
        ("running", "cancelled"),
        ("running", "queued"),
        ("failed", "queued"),
        ("cancelled", "queued"),
    }
)

_EVENTS = RunEventRow.metadata.tables[RunEventRow.__tablename__]
_INSERT_EVENT = insert(_EVENTS).values(at=database_now())


def move(
    session: Session,
    *conditions: ColumnElement[bool],
    from_state: RunState,
    to: RunState,
    actor: str,
    reason: str | None,
    message: str,
    **values: Any,
) -> RunRow | None:
    """Change the state of the run that matches, and add the history entry.

    Args:
        session: in a transaction.
        *conditions: that the run and its lease match.
        from_state: required state before the change.
        to: state after the change.
        actor: who changes it.
        reason: new value of the run's ``reason``.
        message: of the history entry.
        **values: other columns to set.

    Returns:
        The run after the change; None if no run matched.
    """
    assert (from_state, to) in TRANSITIONS
    statement = (
        update(RunRow)
        .where(RunRow.state == from_state, RunRow.deleted_at.is_(None), *conditions)
        .values(state=to, reason=reason, **values)
        .returning(RunRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    row = session.scalars(statement).one_or_none()
    if row is not None:
        add_history(
            session,
            row.number,
            actor,
            message,
            from_=from_state,
            to=to,
            lease_number=row.lease_number,
            attempt=row.attempt,
        )
    return row


@dataclass(frozen=True)
class Parent:
    """The fields that an evaluation inherits from the run whose checkpoint it evaluates."""

    id: str
    name: str
    method: str
    dataset: str
    spec: dict[str, Any]


def hold(session: Session, run_id: str) -> Parent | None:
    """Lock a run against changes and deletion until the transaction ends.

    The lock is taken by an UPDATE that changes nothing: it works on both databases, and on SQLite a
    transaction that reads before it writes cannot wait for another writer.

    Returns:
        None if there is no such run.
    """
    row = session.execute(
        update(RunRow)
        .where(RunRow.id == run_id, RunRow.deleted_at.is_(None))
        .values(parent_id=RunRow.parent_id)
        .returning(RunRow.id, RunRow.name, RunRow.method, RunRow.dataset, RunRow.spec)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return None if row is None else Parent(row.id, row.name, row.method, row.dataset, row.spec)


def reclaim(session: Session, which: ColumnElement[bool], actor: str, why: str) -> list[str]:
    """Reclaim running runs whose process has exited, or is presumed to have.

    A run with a requested cancellation becomes cancelled, one with attempts left is queued again,
    and one without fails.

    Returns:
        The ids of the runs that changed.
    """
    attempts_left = RunRow.attempt < RunRow.max_attempts
    asked = RunRow.cancel_requested.is_(True)
    error = {"code": "worker_lost", "message": why, "log_tail": ""}
    changes: list[tuple[ColumnElement[bool], RunState, dict[str, Any]]] = [
        (asked, "cancelled", {"finished_at": database_now()}),
        (~asked & attempts_left, "queued", {"queued_at": database_now(), "worker": None}),
        (~asked & ~attempts_left, "failed", {"finished_at": database_now(), "error": error}),
    ]
    changed: list[str] = []
    for condition, state, values in changes:
        statement = (
            update(RunRow)
            .where(RunRow.state == "running", which, condition)
            .values(state=state, reason=why, lease_until=None, cancel_requested=False, **values)
            .returning(RunRow.number, RunRow.id, RunRow.lease_number, RunRow.attempt)
            .execution_options(synchronize_session=False)
        )
        for row in session.execute(statement).all():
            add_history(
                session,
                row.number,
                actor,
                why,
                from_="running",
                to=state,
                lease_number=row.lease_number,
                attempt=row.attempt,
            )
            changed.append(row.id)
    return changed


def add_history(
    session: Session,
    number: int,
    actor: str,
    message: str,
    *,
    to: RunState,
    lease_number: int,
    attempt: int,
    from_: RunState | None = None,
) -> None:
    """Add the history entry of a change of state."""
    data = {"from": from_, "to": to, "lease_number": lease_number, "attempt": attempt}
    values = {
        "run_number": number,
        "type": "state",
        "actor": actor,
        "message": message,
        "data": data,
    }
    # Not through the session, which takes twice as long.
    session.connection().execute(_INSERT_EVENT, values)


def current_state(session: Session, run_id: str) -> str:
    """Read the state of a run.

    Raises:
        RunNotFoundError: there is no such run.
    """
    state = session.scalar(
        select(RunRow.state).where(RunRow.id == run_id, RunRow.deleted_at.is_(None))
    )
    if state is None:
        raise RunNotFoundError(run_id)
    return state
