"""A worker's name, which one living process has: the lock that proves it, and its row.

A process id proves nothing where workers run in containers: each start of one counts from 1 again.
So a worker holds an exclusive lock on a file beside the artifacts, which all workers of a service
share. The kernel lets go of it when the last process that has it is gone, however that ended: who
gets the lock of a name knows that nobody of that host works under it any more, and gives back what
the one before it held. Elsewhere a row that was renewed within a lease's time counts as life.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Row, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.clock import database_now
from api.db.tables import WorkerRow
from pmae.errors import PmaeError
from worker.presence.heartbeat import Identity, write_row
from worker.settings import WorkerSettings

GIVEN_BACK = "its worker died and was started again"
"""In the history of a run that the worker of the same name held."""
LOCK_PATIENCE_SECONDS = 5.0
"""When the main process is killed, the one that executes runs lives up to 2 s longer."""
_LOOK_SECONDS = 0.1
_PAUSE_SECONDS = 2.0
_log = logging.getLogger(__name__)


class NameTakenError(PmaeError):
    """Another living worker has the name; says which, and how to take another one."""


class NameLock:
    """An exclusive lock on a file; nothing of it reaches a program that is started."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, patience_seconds: float) -> NameLock | None:
        """Take the lock, waiting for a holder that is about to end.

        Returns:
            None: another process held it all the time.

        Raises:
            OSError: the file cannot be made or locked here.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        give_up = time.monotonic() + patience_seconds
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_open_as(descriptor, path):
                    return cls(path, descriptor)
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    os.close(descriptor)
                    return None
                time.sleep(_LOOK_SECONDS)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        """Remove the file, then let go of the lock: who waits for it takes that of a new file."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


@dataclass(frozen=True)
class Registration:
    """A name that is this process's.

    Attributes:
        identity: as it stands in the row.
        given_back: ids of the runs that the dead worker of the same name held.
        lock: None where the artifact folder cannot be locked.
    """

    identity: Identity
    given_back: list[str]
    lock: NameLock | None


def register(
    sessions: sessionmaker[Session],
    settings: WorkerSettings,
    *,
    lock_patience_seconds: float = LOCK_PATIENCE_SECONDS,
) -> Registration:
    """Take the worker's name; wait for a database that does not answer.

    Raises:
        NameTakenError: another living worker has it.
    """
    name, host = settings.worker_name, socket.gethostname()
    lock = _take_lock(settings, lock_patience_seconds)
    while True:
        try:
            before = _row(sessions, name)
            ours = lock is not None and (before is None or before.host == host)
            registration = _write(sessions, settings, host, lock, give_back=ours)
        except SQLAlchemyError as error:
            _log.warning("the database does not answer, which this worker waits for: %s", error)
            time.sleep(_PAUSE_SECONDS)
            continue
        if registration is not None:
            return registration
        if before is not None:
            raise _taken(before, settings, host)


def _take_lock(settings: WorkerSettings, patience_seconds: float) -> NameLock | None:
    path = settings.artifact_dir / "workers" / f"{settings.worker_name}.lock"
    try:
        lock = NameLock.take(path, patience_seconds=patience_seconds)
    except OSError as error:
        _log.warning(
            "%s cannot be locked (%s): what a worker of this name held before comes back when its "
            "lease ends",
            path,
            error.strerror,
        )
        return None
    if lock is None:
        name = settings.worker_name
        raise NameTakenError(
            f"a worker named {name} runs on this service already, and a name can be used once. "
            f"Give this one another: PMAE_WORKER_NAME={name}-b, for example"
        )
    return lock


def _row(sessions: sessionmaker[Session], name: str) -> Row[str, float] | None:
    """The host of the worker that has the name, and how many seconds ago it was heard of."""
    with sessions() as session:
        silence = (database_now() - WorkerRow.last_seen_at).label("silence_seconds")
        statement = select(WorkerRow.host, silence).where(WorkerRow.name == name)
        return session.execute(statement).one_or_none()


def _write(
    sessions: sessionmaker[Session],
    settings: WorkerSettings,
    host: str,
    lock: NameLock | None,
    *,
    give_back: bool,
) -> Registration | None:
    """Make the row this process's, in one statement; None if somebody living has it."""
    is_dead = WorkerRow.last_seen_at <= database_now() - settings.lease_seconds
    if lock is not None:
        is_dead = or_(is_dead, WorkerRow.host == host)
    with sessions.begin() as session:
        row = write_row(session, settings, host=host, started_at=database_now(), replaces=is_dead)
        if row is None:
            return None
        given_back: list[str] = []
        if give_back:
            given_back = run_states.release_all_of(session, settings.worker_name, reason=GIVEN_BACK)
    return Registration(Identity(host, row.started_at), given_back, lock)


def _taken(before: Row[str, float], settings: WorkerSettings, host: str) -> NameTakenError:
    name, silence = settings.worker_name, max(0.0, before.silence_seconds)
    where = "this host" if before.host == host else f"the host {before.host}"
    return NameTakenError(
        f"a worker named {name} was heard of {silence:.0f} s ago, on {where}, and a name can be "
        f"used once. Give this one another (PMAE_WORKER_NAME={name}-b, for example), or stop that "
        f"one. Where it is dead, this one can start {settings.lease_seconds:.0f} s after its last "
        "sign of life (PMAE_LEASE_SECONDS)"
    )


def _is_open_as(descriptor: int, path: Path) -> bool:
    """Whether ``path`` is still the file that is open: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
