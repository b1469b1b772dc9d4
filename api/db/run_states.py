"""The states of a run. This module alone changes ``runs.state``.

===================  =====================================================================
from -> to           who, when
===================  =====================================================================
(new) -> queued      the API, on submit
queued -> running    a worker claims the best eligible run: priority, then age
running -> succeeded the worker, when the trainer said ``end``
running -> failed    the worker; or the reconciler, when a lease ended after the last attempt
running -> cancelled the worker, when the trainer is gone; or the reconciler
running -> queued    the worker, when it drains or its trainer was killed; or the reconciler
queued -> cancelled  the API
failed, cancelled -> queued   the API (resume)
===================  =====================================================================

Every change is one ``UPDATE ... WHERE`` and counts only if it touched a row; nothing is read first.
The lease number fences: a worker's writes carry the number of its claim, so a stale worker's touch
nothing. Each change writes its line of history in the same transaction.

The functions take a session and do not commit: call them in ``with sessions.begin() as session``.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from api.db.clock import database_now
from api.db.errors import LeaseLostError, RunNotFoundError, TransitionRefusedError
from api.db.tables import RunEventRow, RunRow
from pmae.schema import RunState
from pmae.spec import ExperimentSpec

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


@dataclass(frozen=True)
class Claim:
    """A worker's right to a run, until its lease ends.

    Attributes:
        number: the run's primary key.
        run_id: the run's id.
        lease_number: fences every write.
        attempt: how often the run was started, this time included.
        max_attempts: how often it may be.
        spec: resolved, as JSON.
        worker: who claimed.
    """

    number: int
    run_id: str
    lease_number: int
    attempt: int
    max_attempts: int
    spec: dict[str, Any]
    worker: str


def submit(
    session: Session,
    *,
    spec: ExperimentSpec,
    preset: str | None = None,
    priority: int = 0,
    max_attempts: int = 3,
    actor: str = "api",
) -> RunRow:
    """Record a new run, queued.

    Args:
        session: in a transaction.
        spec: resolved.
        preset: the preset it was made from, if any.
        priority: higher runs first.
        max_attempts: how often it is started when its trainer is killed or its worker is lost.
        actor: who submits.
    """
    row = RunRow(
        id=secrets.token_hex(6),
        kind=spec.kind,
        name=spec.name or preset or f"{spec.method} on {spec.dataset.name}",
        method=spec.method,
        dataset=spec.dataset.name,
        preset=preset,
        spec=spec.model_dump(mode="json"),
        tags=list(spec.tags),
        state="queued",
        priority=priority,
        max_attempts=max_attempts,
        created_at=database_now(),
        queued_at=database_now(),
        progress={},
        last_metrics={},
        environment={},
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    _tell(session, row.number, actor, "submitted", to="queued", lease_number=0, attempt=0)
    return row


def claim(session: Session, *, worker: str, lease_seconds: float) -> Claim | None:
    """Take the best queued run: highest priority, then longest in the queue.

    Returns:
        None if nothing waits.
    """
    best = (
        select(RunRow.number)
        .where(RunRow.state == "queued")
        .order_by(RunRow.priority.desc(), RunRow.queued_at, RunRow.number)
        .limit(1)
    )
    if session.get_bind().dialect.name == "postgresql":
        best = best.with_for_update(skip_locked=True)
    row = _move(
        session,
        RunRow.number == best.scalar_subquery(),
        from_state="queued",
        to="running",
        actor=worker,
        reason=None,
        message=f"started by {worker}",
        lease_number=RunRow.lease_number + 1,
        attempt=RunRow.attempt + 1,
        worker=worker,
        lease_until=database_now() + lease_seconds,
        recorded_offset=0,
        cancel_requested=False,
        progress={},
        started_at=_coalesce_now(),
    )
    if row is None:
        return None
    return Claim(
        row.number, row.id, row.lease_number, row.attempt, row.max_attempts, row.spec, worker
    )


def heartbeat(session: Session, claimed: Claim, *, lease_seconds: float) -> bool:
    """Renew the lease.

    Returns:
        Whether somebody asked to cancel the run.

    Raises:
        LeaseLostError: the run belongs to another lease, or has ended.
    """
    statement = (
        update(RunRow)
        .where(*held(claimed))
        .values(lease_until=database_now() + lease_seconds)
        .returning(RunRow.cancel_requested)
        .execution_options(synchronize_session=False)
    )
    requested = session.execute(statement).scalar_one_or_none()
    if requested is None:
        raise _lost(claimed)
    return requested


def held(claimed: Claim) -> tuple[ColumnElement[bool], ...]:
    """The conditions under which a write of this claim counts."""
    return (
        RunRow.number == claimed.number,
        RunRow.lease_number == claimed.lease_number,
        RunRow.state == "running",
    )


def finish(session: Session, claimed: Claim, *, state: RunState, reason: str) -> None:
    """End a run: ``succeeded``, ``failed`` or ``cancelled``.

    Raises:
        LeaseLostError: the run belongs to another lease, or has ended.
    """
    row = _move(
        session,
        *held(claimed),
        from_state="running",
        to=state,
        actor=claimed.worker,
        reason=reason if state != "succeeded" else None,
        message=reason,
        finished_at=database_now(),
        lease_until=None,
        cancel_requested=False,
    )
    if row is None:
        raise _lost(claimed)


def requeue(session: Session, claimed: Claim, *, reason: str, counts_attempt: bool) -> None:
    """Put a run back into the queue; another worker resumes it.

    Args:
        session: in a transaction.
        claimed: the claim that ends.
        reason: why, in a sentence.
        counts_attempt: False if nothing went wrong, as when the worker drains.

    Raises:
        LeaseLostError: the run belongs to another lease, or has ended.
    """
    attempt = RunRow.attempt if counts_attempt else RunRow.attempt - 1
    row = _move(
        session,
        *held(claimed),
        from_state="running",
        to="queued",
        actor=claimed.worker,
        reason=reason,
        message=reason,
        attempt=attempt,
        queued_at=database_now(),
        lease_until=None,
        worker=None,
    )
    if row is None:
        raise _lost(claimed)


def request_cancel(session: Session, run_id: str, *, actor: str) -> None:
    """Cancel a queued run at once; ask the worker of a running one to.

    Raises:
        RunNotFoundError: there is no such run.
        TransitionRefusedError: the run has ended.
    """
    cancelled = _move(
        session,
        RunRow.id == run_id,
        from_state="queued",
        to="cancelled",
        actor=actor,
        reason="cancelled before it started",
        message="cancelled before it started",
        finished_at=database_now(),
    )
    if cancelled is not None:
        return
    asked = session.execute(
        update(RunRow)
        .where(RunRow.id == run_id, RunRow.state == "running")
        .values(cancel_requested=True)
        .returning(RunRow.number)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if asked is not None:
        event = RunEventRow(
            run_number=asked,
            at=database_now(),
            type="cancel",
            actor=actor,
            message="asked to cancel",
            data={},
        )
        session.add(event)
        return
    state = session.scalar(select(RunRow.state).where(RunRow.id == run_id))
    if state is None:
        raise RunNotFoundError(run_id)
    raise TransitionRefusedError(
        f"run {run_id} has {state} and cannot be cancelled; queued and running runs can"
    )


def expire_leases(session: Session) -> list[str]:
    """Take back every run whose lease has ended. Safe to run twice at once.

    A run that was to be cancelled is cancelled, one with attempts left is queued again, and one
    without is failed.

    Returns:
        The ids of the runs that changed.
    """
    overdue = RunRow.lease_until < database_now()
    why = "its worker was not heard of until the lease ended"
    attempts_left = RunRow.attempt < RunRow.max_attempts
    asked = RunRow.cancel_requested.is_(True)
    changes: list[tuple[ColumnElement[bool], RunState, dict[str, Any]]] = [
        (asked, "cancelled", {"finished_at": database_now()}),
        (~asked & attempts_left, "queued", {"queued_at": database_now(), "worker": None}),
        (~asked & ~attempts_left, "failed", {"finished_at": database_now()}),
    ]
    changed: list[str] = []
    for condition, state, values in changes:
        statement = (
            update(RunRow)
            .where(RunRow.state == "running", overdue, condition)
            .values(state=state, reason=why, lease_until=None, **values)
            .returning(RunRow.number, RunRow.id, RunRow.lease_number, RunRow.attempt)
            .execution_options(synchronize_session=False)
        )
        for row in session.execute(statement).all():
            _tell(
                session,
                row.number,
                "reconciler",
                why,
                from_="running",
                to=state,
                lease_number=row.lease_number,
                attempt=row.attempt,
            )
            changed.append(row.id)
    return changed


def resume(session: Session, run_id: str, *, actor: str) -> None:
    """Queue a failed or cancelled run again, with all its attempts; it goes on where it was.

    Raises:
        RunNotFoundError: there is no such run.
        TransitionRefusedError: the run is neither failed nor cancelled.
    """
    for state in ("failed", "cancelled"):
        moved = _move(
            session,
            RunRow.id == run_id,
            from_state=state,
            to="queued",
            actor=actor,
            reason=None,
            message="resumed",
            attempt=0,
            queued_at=database_now(),
            finished_at=None,
            cancel_requested=False,
        )
        if moved is not None:
            return
    current = session.scalar(select(RunRow.state).where(RunRow.id == run_id))
    if current is None:
        raise RunNotFoundError(run_id)
    raise TransitionRefusedError(
        f"run {run_id} is {current} and cannot be resumed; failed and cancelled runs can"
    )


def _move(
    session: Session,
    *conditions: ColumnElement[bool],
    from_state: RunState,
    to: RunState,
    actor: str,
    reason: str | None,
    message: str,
    **values: Any,
) -> RunRow | None:
    assert (from_state, to) in TRANSITIONS
    statement = (
        update(RunRow)
        .where(RunRow.state == from_state, *conditions)
        .values(state=to, reason=reason, **values)
        .returning(RunRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    row = session.scalars(statement).one_or_none()
    if row is not None:
        _tell(
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


def _tell(
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
    data = {"from": from_, "to": to, "lease_number": lease_number, "attempt": attempt}
    session.add(
        RunEventRow(
            run_number=number,
            at=database_now(),
            type="state",
            actor=actor,
            message=message,
            data=data,
        )
    )


def _coalesce_now() -> ColumnElement[float]:
    return func.coalesce(RunRow.started_at, database_now())


def _lost(claimed: Claim) -> LeaseLostError:
    return LeaseLostError(
        f"lease {claimed.lease_number} of run {claimed.run_id} is not {claimed.worker}'s any more"
    )
