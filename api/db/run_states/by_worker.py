"""Changes of a run's state by workers: claim it, renew its lease, end it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session

from api.db.clock import database_now
from api.db.errors import LeaseLostError
from api.db.run_states.claims import ANY_KIND, Claim, Slot, held
from api.db.run_states.machine import move, reclaim
from api.db.tables import RunRow
from pmae.schema import RunState


def claim(
    session: Session, *, worker: str, lease_seconds: float, slot: Slot = ANY_KIND
) -> Claim | None:
    """Claim the first queued run that ``slot`` can serve: by priority, then by time of queueing.

    Returns:
        None if there is none.
    """
    best = (
        select(RunRow.number)
        .where(RunRow.state == "queued", slot.serves())
        .order_by(RunRow.priority.desc(), RunRow.queued_at, RunRow.number)
        .limit(1)
    )
    if session.get_bind().dialect.name == "postgresql":
        best = best.with_for_update(skip_locked=True)
    row = move(
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
        True if cancellation of the run was requested.

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


def finish(
    session: Session,
    claimed: Claim,
    *,
    state: RunState,
    reason: str,
    error: dict[str, Any] | None = None,
) -> None:
    """End a run: ``succeeded``, ``failed`` or ``cancelled``.

    Args:
        session: in a transaction.
        claimed: the claim that ends.
        state: the final state.
        reason: why, for the run and its history.
        error: of a failed run: code, message, log_tail.

    Raises:
        LeaseLostError: the run belongs to another lease, or has ended.
    """
    row = move(
        session,
        *held(claimed),
        from_state="running",
        to=state,
        actor=claimed.worker,
        reason=reason if state != "succeeded" else None,
        message=reason,
        error=error,
        finished_at=database_now(),
        lease_until=None,
        cancel_requested=False,
    )
    if row is None:
        raise _lost(claimed)


def requeue(session: Session, claimed: Claim, *, reason: str, counts_attempt: bool) -> None:
    """Put a run back into the queue; another worker resumes it.

    If cancellation was requested since the worker's last check, the run is cancelled instead: the
    next claim would reset the request.

    Args:
        session: in a transaction.
        claimed: the claim that ends.
        reason: why, for the run and its history.
        counts_attempt: use up an attempt; False if nothing failed, as when the worker drains.

    Raises:
        LeaseLostError: the run belongs to another lease, or has ended.
    """
    row = move(
        session,
        *held(claimed),
        RunRow.cancel_requested.is_(False),
        from_state="running",
        to="queued",
        actor=claimed.worker,
        reason=reason,
        message=reason,
        attempt=RunRow.attempt if counts_attempt else RunRow.attempt - 1,
        queued_at=database_now(),
        lease_until=None,
        worker=None,
    )
    if row is None:
        finish(session, claimed, state="cancelled", reason="cancelled; its trainer has stopped")


def release(session: Session, claimed: Claim, *, reason: str) -> None:
    """Reclaim a run whose process has exited, as if its lease had expired."""
    reclaim(session, and_(*held(claimed)), claimed.worker, reason)


def release_all_of(session: Session, worker: str, *, reason: str) -> list[str]:
    """Reclaim the runs of ``worker`` after its process that executes runs died.

    Returns:
        The ids of the runs that changed.
    """
    return reclaim(session, RunRow.worker == worker, worker, reason)


def _coalesce_now() -> ColumnElement[float]:
    return func.coalesce(RunRow.started_at, database_now())


def _lost(claimed: Claim) -> LeaseLostError:
    return LeaseLostError(
        f"lease {claimed.lease_number} of run {claimed.run_id} has ended: it is no longer "
        f"{claimed.worker}'s"
    )
