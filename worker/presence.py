"""That this worker is there: its row, renewed by a thread of the worker's main process."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.db.clock import database_now
from api.db.errors import SchemaError, reason
from api.db.revision import current_schema
from api.db.tables import WorkerRow
from worker.settings import WorkerSettings

_log = logging.getLogger(__name__)


class Presence:
    """Keeps the worker's row fresh until it is stopped.

    The main process forks, for example a new child when one was killed. A library's lock that this
    thread holds at that moment would stay locked in the child for ever (SQLite has such locks), so
    a fork waits until the thread is not in the database.

    Args:
        sessions: of the run database.
        settings: of the worker.
        tell_drain: told at each sign of life whether somebody asked this worker to drain.
        tend: done before each sign of life.
        refuse: told when somebody has migrated the database to another schema; nothing follows.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        settings: WorkerSettings,
        tell_drain: Callable[[bool], None],
        tend: Callable[[], None],
        refuse: Callable[[SchemaError], None],
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._tell_drain = tell_drain
        self._tend = tend
        self._refuse = refuse
        self._stopped = threading.Event()
        self._in_database = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Begin."""
        os.register_at_fork(
            before=self._in_database.acquire,
            after_in_parent=self._in_database.release,
            after_in_child=self._in_database.release,
        )
        self._thread.start()

    def stop(self) -> None:
        """End, and remove the row; one that asks to drain stays for a worker of the same name."""
        self._stopped.set()
        self._thread.join()
        with self._sessions.begin() as session:
            session.execute(
                delete(WorkerRow).where(
                    WorkerRow.name == self._settings.worker_name,
                    WorkerRow.drain_requested.is_(False),
                )
            )

    def _run(self) -> None:
        while True:
            try:
                self._tend()
                with self._in_database:
                    drain_requested = self._renew()
                self._tell_drain(drain_requested)
            except SchemaError as error:
                self._refuse(error)
                return
            except SQLAlchemyError as error:
                told = reason(error)
                _log.warning("the database did not take this worker's sign of life: %s", told)
            except OSError:
                _log.exception("the system refused this worker something")
            if self._stopped.wait(self._settings.heartbeat_seconds):
                return

    def _renew(self) -> bool:
        slot = self._settings.slot
        values = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "last_seen_at": database_now(),
            "kinds": list(slot.kinds),
            "devices": slot.devices,
        }
        with self._sessions.begin() as session, current_schema(session):
            postgres = session.get_bind().dialect.name == "postgresql"
            insert = postgresql.insert if postgres else sqlite.insert
            return session.execute(
                insert(WorkerRow)
                .values(name=self._settings.worker_name, started_at=database_now(), **values)
                .on_conflict_do_update(index_elements=["name"], set_=values)
                .returning(WorkerRow.drain_requested)
            ).scalar_one()
