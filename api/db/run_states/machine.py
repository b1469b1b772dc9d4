"""The one statement that changes a run's state, and the line of history that goes with it."""

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
    """Change the state of the one run that fits, and write its line of history.

    Args:
        session: in a transaction.
        *conditions: beside the state: which run, which lease.
        from_state: the run's state before.
        to: and after.
        actor: who changes it.
        reason: what the run's ``reason`` becomes.
        message: for the history.
        **values: other columns to set.

    Returns:
        The run as it is now; None if none fits, and nothing was changed.
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
        tell(
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
    """The run whose checkpoint another one evaluates, as far as that run takes over from it."""

    id: str
    name: str
    method: str
    dataset: str
    spec: dict[str, Any]


def hold(session: Session, run_id: str) -> Parent | None:
    """Keep others from changing or deleting a run until the transaction ends.

    It writes nothing that anybody sees: the lock is what an UPDATE takes on either database, and
    a transaction of SQLite's that reads first could not wait for another writer.

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


def take_back(session: Session, which: ColumnElement[bool], actor: str, why: str) -> list[str]:
    """End the leases of running runs whose process is gone, or must be taken for gone.

    A run that was to be cancelled is cancelled, one with attempts left is queued again, and one
    without is failed.

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
            tell(
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


def tell(
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
    """Write the line of history of a change of state."""
    data = {"from": from_, "to": to, "lease_number": lease_number, "attempt": attempt}
    values = {
        "run_number": number,
        "type": "state",
        "actor": actor,
        "message": message,
        "data": data,
    }
    # Past the session, which would take twice the time.
    session.connection().execute(_INSERT_EVENT, values)


def current_state(session: Session, run_id: str) -> str:
    """The state of a run.

    Raises:
        RunNotFoundError: there is no such run.
    """
    state = session.scalar(
        select(RunRow.state).where(RunRow.id == run_id, RunRow.deleted_at.is_(None))
    )
    if state is None:
        raise RunNotFoundError(run_id)
    return state
