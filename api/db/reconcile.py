"""What puts right what nobody told: ended leases, and runs that wait while nobody was rung."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api.db.clock import database_now
from api.db.run_states import expire_leases
from api.db.tables import RunRow, WorkerRow


def reconcile_once(
    sessions: sessionmaker[Session],
    *,
    ring: Callable[[], None],
    waiting_messages: Callable[[], int],
    worker_silence_seconds: float,
) -> list[str]:
    """Expire leases, then ring while runs wait and fewer rings are in the queue than can be used.

    Safe to run twice at once: a ring too many is a no-op.

    Args:
        sessions: of the run database.
        ring: puts one message into the queue.
        waiting_messages: how many are in it.
        worker_silence_seconds: a worker not heard of for so long is not there.

    Returns:
        The ids of the runs whose leases had ended.
    """
    with sessions.begin() as session:
        expired = expire_leases(session)
    with sessions.begin() as session:
        waiting = session.scalar(select(func.count()).where(RunRow.state == "queued")) or 0
        idle = session.scalar(
            select(func.count()).where(
                WorkerRow.run_id.is_(None),
                WorkerRow.last_seen_at > database_now() - worker_silence_seconds,
            )
        )
    if waiting:
        wanted = min(waiting, max(idle or 0, 1))
        for _ in range(wanted - waiting_messages()):
            ring()
    return expired
