"""Reconciler: expire leases and repeat lost wake-ups."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, sessionmaker

from api.db.clock import database_now
from api.db.run_states import expire_leases
from api.db.tables import RunRow, WorkerRow
from pmae.schema import RUN_KINDS, RunKind


def expire_lost_leases(sessions: sessionmaker[Session]) -> list[str]:
    """Reclaim runs whose lease has run out, in a transaction of its own; return their ids."""
    with sessions.begin() as session:
        return expire_leases(session)


def repeat_wake_ups(
    sessions: sessionmaker[Session],
    *,
    send: Callable[[RunKind], None],
    waiting_messages: Callable[[RunKind], int],
    worker_silence_seconds: float,
) -> None:
    """Send wake-ups until there are as many messages as workers that could take a queued run.

    Concurrent calls are safe: a surplus wake-up does nothing.

    Args:
        sessions: of the run database.
        send: puts one message into the queue of a kind.
        waiting_messages: counts the messages in it.
        worker_silence_seconds: a worker without a heartbeat for this long is considered down.
    """
    with sessions() as session:
        wanted = {kind: _wake_ups_for(session, kind, worker_silence_seconds) for kind in RUN_KINDS}
    for kind, count in wanted.items():
        if count:
            for _ in range(count - waiting_messages(kind)):
                send(kind)


def _wake_ups_for(session: Session, kind: RunKind, silence_seconds: float) -> int:
    """Count the idle slots that could take a queued run of ``kind``.

    At least 1 while runs wait: a worker that is starting is not in the table yet.
    """
    waiting = session.scalars(
        select(RunRow.devices)
        .where(RunRow.state == "queued", RunRow.kind == kind)
        .order_by(RunRow.devices)
    ).all()
    if not waiting:
        return 0
    idle = [
        worker
        for worker in session.scalars(select(WorkerRow).where(present(silence_seconds), idles()))
        if kind in worker.kinds and worker.devices >= waiting[0] and not worker.drain_requested
    ]
    fitting = min(len(waiting), len(idle))
    # With runs of different sizes a slot too small for a run may take its message: wake them all.
    return max(1, fitting if waiting[0] == waiting[-1] else len(idle))


def present(silence_seconds: float) -> ColumnElement[bool]:
    """Return the condition that a worker sent a heartbeat within ``silence_seconds``."""
    return WorkerRow.last_seen_at > database_now() - silence_seconds


def idles() -> ColumnElement[bool]:
    """Return the condition that a worker has no running run."""
    busy = select(RunRow.number).where(RunRow.state == "running", RunRow.worker == WorkerRow.name)
    return ~busy.correlate(WorkerRow).exists()
