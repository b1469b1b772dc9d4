"""Engines and sessions. No transaction spans training or a network call."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

SQLITE_BUSY_TIMEOUT_MS = 30_000
MAX_THREADS = 64
"""Threads of an application: 40 serve requests; others check keys, write the audit trail, feed
streams and clean up. Each needs at most one connection."""
CONNECT_TIMEOUT_SECONDS = 10
"""For a PostgreSQL server that is unreachable: a request must not wait for minutes."""
POOL_SIZE = 20
"""Connections kept open: opening one takes longer than a typical query."""


_HAS_TURN = "pmae_has_turn"


def make_engine(url: str, *, pooled: bool = True) -> Engine:
    """Create an engine for SQLite or PostgreSQL.

    SQLite runs with a write-ahead log: readers never wait, and a writer waits up to 30 s for
    another. A transaction that writes must write first: one that reads before it writes cannot wait
    for another writer.

    Args:
        url: SQLAlchemy URL.
        pooled: keep connections open; False in a process that forks.
    """
    parsed = make_url(url)
    options: dict[str, Any] = {"poolclass": NullPool}
    if pooled:
        options = {"pool_size": POOL_SIZE, "max_overflow": MAX_THREADS - POOL_SIZE}
    if parsed.get_backend_name() != "sqlite":
        if "connect_timeout" not in parsed.query:
            parsed = parsed.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_SECONDS)})
        return create_engine(parsed, pool_pre_ping=pooled, **options)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, **options)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin)
    _take_turns(engine)
    return engine


def make_sessions(engine: Engine) -> sessionmaker[Session]:
    """Create a session factory; rows stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # `_begin` begins transactions: the driver would do so only before the first write.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}")
    _use_write_ahead_log(cursor)
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """Set the journal mode, which persists; SQLite's busy timeout does not cover this."""
    give_up = time.monotonic() + SQLITE_BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= give_up:
                raise
            time.sleep(0.02)
        else:
            return


def _take_turns(engine: Engine) -> None:
    """Let the threads of this process write one after the other.

    SQLite allows one writer, and the others retry with a growing backoff: of twenty writing
    threads, some would sleep for seconds while the file is free. Other processes are few and rely
    on SQLite's busy timeout.
    """
    turn = threading.Lock()

    def before(
        connection: Connection,
        _cursor: object,
        _statement: str,
        _parameters: object,
        context: DefaultExecutionContext | None,
        _many: object,
    ) -> None:
        writes = context is not None and (context.isinsert or context.isupdate or context.isdelete)
        if writes and not connection.info.get(_HAS_TURN):
            # Without the lock SQLite's busy timeout still applies.
            connection.info[_HAS_TURN] = turn.acquire(timeout=SQLITE_BUSY_TIMEOUT_MS / 1000)

    def after(_connection: object, record: ConnectionPoolEntry) -> None:
        """Release the lock when a session returns its connection, after commit or rollback."""
        if record.info.pop(_HAS_TURN, False):
            turn.release()

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "checkin", after)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
