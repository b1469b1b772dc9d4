"""Audit writer: records requests in a thread, so that responses do not wait for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from sqlalchemy import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.audit.entries import Attempt
from api.db.clock import database_now
from api.db.tables import AuditRow

MAX_WAITING = 10_000
"""Maximum number of entries that wait for the database."""
_LONGEST_PATH = 1_000
_ENTRIES = AuditRow.metadata.tables[AuditRow.__tablename__]
_INSERT = insert(_ENTRIES).values(at=database_now())
_logger = logging.getLogger(__name__)


class AuditWriter:
    """Adds entries to the trail. Use it in a ``with`` block, whose end waits for the last ones.

    A thread writes the entries that arrived during its last write in one transaction. Entries that
    cannot be written are logged, since their requests have taken effect.
    """

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._changed = threading.Condition()
        self._waiting: list[Attempt] = []
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="audit writer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def add(self, attempt: Attempt) -> None:
        """Record a request soon."""
        with self._changed:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(attempt)
                self._changed.notify()
                return
        _logger.error("the audit trail lacks %s: too many entries wait", attempt)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                attempts, self._waiting = self._waiting, []
            if not attempts:
                return
            write_entries(self._sessions, attempts)


def write_entries(sessions: sessionmaker[Session], attempts: Sequence[Attempt]) -> None:
    """Add entries in one transaction; if that fails, each in its own."""
    try:
        with sessions.begin() as session:
            session.execute(_INSERT, [_values(attempt) for attempt in attempts])
    except SQLAlchemyError:
        if len(attempts) == 1:
            _logger.exception("the audit trail lacks %s", attempts[0])
            return
        for attempt in attempts:
            write_entries(sessions, [attempt])


def _values(attempt: Attempt) -> dict[str, object]:
    principal = attempt.principal
    return {
        "actor": principal.name if principal else None,
        "role": principal.role if principal else None,
        "operation": attempt.operation[:64],
        "method": attempt.method[:8],
        # No database stores U+0000.
        "path": attempt.path[:_LONGEST_PATH].replace("\x00", "%00"),
        "status": attempt.status,
        "request_id": attempt.request_id,
        "address": attempt.address,
    }
