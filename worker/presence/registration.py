"""Registration of a worker's name, which only one living worker may have: its lock and its row.

Process ids are not unique across containers, where each start counts from 1. So a worker holds an
exclusive lock on a file beside the artifacts, which all workers of a service share. The kernel
releases it when the last process that holds it exits, so whoever gets the lock knows that no other
worker on that host has the name, and gives back the runs of the previous one. For another host, a
row that was renewed within the lease's duration means that the worker is alive.
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

GIVEN_BACK = "its worker died and was restarted"
"""Reason in the history of a run that the previous worker of the name held."""
LOCK_TIMEOUT_SECONDS = 5.0
"""After the main process is killed, the child that executes runs lives up to 2 s longer."""
_LOOK_SECONDS = 0.1
_PAUSE_SECONDS = 2.0
_log = logging.getLogger(__name__)


class NameTakenError(PmaeError):
    """The name belongs to another living worker; says which, and how to set another name."""


class NameLock:
    """An exclusive lock on a file, not inherited by programs that are started."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, timeout_seconds: float) -> NameLock | None:
        """Take the lock, waiting for a holder that is about to exit.

        Returns:
            None if another process held it all the time.

        Raises:
            OSError: the file cannot be created or locked here.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        give_up = time.monotonic() + timeout_seconds
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
        """Remove the file, then release the lock; a waiting process locks a new file."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


@dataclass(frozen=True)
class Registration:
    """A name that this process has registered.

    Attributes:
        identity: as in the row.
        given_back: ids of the runs of the dead worker of the same name.
        lock: None if the artifact folder does not support locks.
    """

    identity: Identity
    given_back: list[str]
    lock: NameLock | None


def register(
    sessions: sessionmaker[Session],
    settings: WorkerSettings,
    *,
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
) -> Registration:
    """Register the worker's name; wait for a database that does not answer.

    Raises:
        NameTakenError: it belongs to another living worker.
    """
    name, host = settings.worker_name, socket.gethostname()
    lock = _take_lock(settings, lock_timeout_seconds)
    while True:
        try:
            before = _row(sessions, name)
            ours = lock is not None and (before is None or before.host == host)
            registration = _write(sessions, settings, host, lock, give_back=ours)
        except SQLAlchemyError as error:
            _log.warning("waiting for the database, which does not answer: %s", error)
            time.sleep(_PAUSE_SECONDS)
            continue
        if registration is not None:
            return registration
        if before is not None:
            raise _taken(before, settings, host)


def _take_lock(settings: WorkerSettings, timeout_seconds: float) -> NameLock | None:
    path = settings.artifact_dir / "workers" / f"{settings.worker_name}.lock"
    try:
        lock = NameLock.take(path, timeout_seconds=timeout_seconds)
    except OSError as error:
        _log.warning(
            "%s cannot be locked (%s): runs of the previous worker of this name are reclaimed only "
            "when their lease expires",
            path,
            error.strerror,
        )
        return None
    if lock is None:
        name = settings.worker_name
        raise NameTakenError(
            f"a worker named {name} is already running, and names must be unique; "
            f"set another one, for example PMAE_WORKER_NAME={name}-b"
        )
    return lock


def _row(sessions: sessionmaker[Session], name: str) -> Row[str, float] | None:
    """Read the host of the worker with this name, and the seconds since its last heartbeat."""
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
    """Take over the row in one statement; None if it belongs to a living worker."""
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
        f"a worker named {name} sent a heartbeat {silence:.0f} s ago, on {where}, and names must "
        f"be unique; set another one, for example PMAE_WORKER_NAME={name}-b, or stop that worker. "
        f"If it is dead, this one can start {settings.lease_seconds:.0f} s after its last "
        "heartbeat (PMAE_LEASE_SECONDS)"
    )


def _is_open_as(descriptor: int, path: Path) -> bool:
    """Return True if ``path`` is still the open file, which its last holder may have removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
