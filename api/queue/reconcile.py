"""What puts right what nobody told: ended leases, and runs that wait while nobody was rung."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, sessionmaker

from api.db.clock import database_now
from api.db.run_states import expire_leases
from api.db.tables import RunRow, WorkerRow
from pmae.schema import RUN_KINDS, RunKind


def take_back_lost(sessions: sessionmaker[Session]) -> list[str]:
    """Expire leases; the ids of the runs whose leases had ended. Safe to run twice at once."""
    with sessions.begin() as session:
        return expire_leases(session)


def ring_once(
    sessions: sessionmaker[Session],
    *,
    ring: Callable[[RunKind], None],
    waiting_messages: Callable[[RunKind], int],
    worker_silence_seconds: float,
) -> None:
    """Ring while runs wait and fewer rings are in the queues than can be used.

    Safe to run twice at once: a ring too many is a no-op.

    Args:
        sessions: of the run database.
        ring: puts one message into the queue of a kind.
        waiting_messages: how many are in it.
        worker_silence_seconds: a worker not heard of for so long is not there.
    """
    with sessions() as session:
        wanted = {kind: _rings(session, kind, worker_silence_seconds) for kind in RUN_KINDS}
    for kind, rings in wanted.items():
        if rings:
            for _ in range(rings - waiting_messages(kind)):
                ring(kind)


def _rings(session: Session, kind: RunKind, silence_seconds: float) -> int:
    """How many slots could take a run of ``kind`` now.

    One at least while runs wait: a worker that is about to come up is not in the table yet.
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
    # A slot that is too small for some of them may take the message of one that is not: ring all.
    return max(1, fitting if waiting[0] == waiting[-1] else len(idle))


def present(silence_seconds: float) -> ColumnElement[bool]:
    """The condition that a worker was heard of within ``silence_seconds``."""
    return WorkerRow.last_seen_at > database_now() - silence_seconds


def idles() -> ColumnElement[bool]:
    """The condition that a worker runs nothing."""
    busy = select(RunRow.number).where(RunRow.state == "running", RunRow.worker == WorkerRow.name)
    return ~busy.correlate(WorkerRow).exists()
