"""Worker heartbeat: a thread of the main process that renews the worker's row.

The lease of a run is renewed by its supervisor (:mod:`worker.supervision.claimed_run`).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.db.clock import database_now
from api.db.errors import SchemaError, reason
from api.db.revision import current_schema
from api.db.tables import WorkerRow
from worker.settings import WorkerSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Identity of one start of a worker, unique among those with its name.

    Attributes:
        host: host name at the start.
        started_at: time by the database's clock.
    """

    host: str
    started_at: float


class Presence:
    """Renews the worker's row until it is stopped.

    The main process forks, for example a new child after one was killed. A library's lock held by
    this thread during the fork (SQLite has such locks) would stay locked in the child, so a fork
    waits until the thread has left the database.

    Args:
        sessions: of the run database.
        settings: of the worker.
        identity: of this start.
        set_draining: called at each heartbeat with True if draining was requested.
        tend: keeps the fork server alive; called before each heartbeat.
        refuse: called once, as the last thing, if the database was migrated to another schema.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        settings: WorkerSettings,
        identity: Identity,
        set_draining: Callable[[bool], None],
        tend: Callable[[], None],
        refuse: Callable[[SchemaError], None],
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._identity = identity
        self._set_draining = set_draining
        self._tend = tend
        self._refuse = refuse
        self._stopped = threading.Event()
        self._in_database = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        os.register_at_fork(
            before=self._in_database.acquire,
            after_in_parent=self._in_database.release,
            after_in_child=self._in_database.release,
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop, and remove the row unless it requests draining, which outlives a restart."""
        self._stopped.set()
        self._thread.join()
        with self._sessions.begin() as session:
            session.execute(
                delete(WorkerRow).where(
                    WorkerRow.name == self._settings.worker_name,
                    WorkerRow.started_at == self._identity.started_at,
                    WorkerRow.drain_requested.is_(False),
                )
            )

    def _run(self) -> None:
        while True:
            try:
                self._tend()
                with self._in_database:
                    drain_requested = self._renew()
                self._set_draining(drain_requested)
            except SchemaError as error:
                self._refuse(error)
                return
            except SQLAlchemyError as error:
                _log.warning("the heartbeat was not written: %s", reason(error))
            except OSError:
                _log.exception("a system call failed in the heartbeat")
            if self._stopped.wait(self._settings.heartbeat_seconds):
                return

    def _renew(self) -> bool:
        """Renew the row; return True if draining is requested."""
        with self._sessions.begin() as session, current_schema(session):
            row = write_row(
                session,
                self._settings,
                host=self._identity.host,
                started_at=self._identity.started_at,
                replaces=WorkerRow.started_at == self._identity.started_at,
            )
        if row is None:
            _log.error(
                "another worker was started under the name %s while this one sent no heartbeat: "
                "this one takes no more runs; stop it, or set another PMAE_WORKER_NAME",
                self._settings.worker_name,
            )
            return True
        return bool(row.drain_requested)


def write_row(
    session: Session,
    settings: WorkerSettings,
    *,
    host: str,
    started_at: float | ColumnElement[float],
    replaces: ColumnElement[bool],
) -> Row[float, bool] | None:
    """Insert or renew the worker's row.

    Args:
        session: in a transaction.
        settings: of the worker.
        host: of the worker.
        started_at: time of its start.
        replaces: condition on an existing row that may be overwritten.

    Returns:
        The row's ``started_at`` and ``drain_requested``; None if the row belongs to another worker
        and was not changed.
    """
    slot = settings.slot
    values: dict[str, Any] = {
        "host": host,
        "pid": os.getpid(),
        "started_at": started_at,
        "last_seen_at": database_now(),
        "kinds": list(slot.kinds),
        "devices": slot.devices,
    }
    postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert if postgres else sqlite.insert
    return session.execute(
        insert(WorkerRow)
        .values(name=settings.worker_name, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values, where=replaces)
        .returning(WorkerRow.started_at, WorkerRow.drain_requested)
    ).one_or_none()
