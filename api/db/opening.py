"""Open the database when a process starts; its errors become one-sentence messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.db.errors import DatabaseAwayError, DatabaseRefusedError, reason
from api.db.revision import check_revision, revision_of
from api.db.session import make_engine

LOOK_SECONDS = 1.0
"""Between two attempts to reach a database that does not answer."""
_PASSWORD = re.compile(r"authentication failed|no password supplied|role \S+ does not exist")
_PERMANENT = re.compile(
    rf"{_PASSWORD.pattern}|no pg_hba\.conf entry|database \S+ does not exist"
    r"|permission denied for database|not permitted to log in|does not support SSL"
)
"""PostgreSQL's messages for errors that a retry does not cure. The client library passes on no
error code for a refused connection."""


def describe(url: str) -> str:
    """Name the database of a URL without its password: ``the database at db:5432``.

    Raises:
        DatabaseRefusedError: it is not a database URL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseRefusedError(
            f"PMAE_DATABASE_URL: {reason(error)}; expected sqlite:///FILE or "
            "postgresql+psycopg://user:password@host/name"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        return f"the database {parsed.database}"
    host = parsed.host or parsed.query.get("host") or "localhost"
    return f"the database at {host}:{parsed.port or 5432}"


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    """Yield an engine without a pool; errors of the database become one-sentence messages.

    Raises:
        DatabaseRefusedError: the database cannot be used; names the settings to check.
        DatabaseAwayError: it does not answer.
    """
    where = describe(url)
    try:
        engine = make_engine(url, pooled=False)
    except ImportError as error:
        raise DatabaseRefusedError(
            f"the driver of {make_url(url).drivername} is not installed ({error}); "
            "expected PMAE_DATABASE_URL as sqlite:///... or postgresql+psycopg://..."
        ) from error
    except SQLAlchemyError as error:
        raise DatabaseRefusedError(f"PMAE_DATABASE_URL: {reason(error)}") from error
    try:
        yield engine
    except SQLAlchemyError as error:
        raise _sentence(error, where, is_server=engine.dialect.name != "sqlite") from error
    finally:
        engine.dispose()


def check_database(url: str) -> None:
    """Connect to the database once, and check its schema's revision.

    Raises:
        SchemaError: its schema is of another version, or missing.
        DatabaseRefusedError: it cannot be used.
        DatabaseAwayError: it does not answer.
    """
    where = describe(url)
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        check_revision(None, where)  # connecting would create the file
    with opened(url) as engine, engine.connect() as connection:
        found = revision_of(connection)
    check_revision(found, where)


def wait_for_database(
    url: str,
    *,
    look: Callable[[str], None],
    pause: Callable[[float], bool],
    say: Callable[[str], None],
) -> None:
    """Wait until the database answers; report once that it does not.

    Args:
        url: SQLAlchemy URL.
        look: checks it, as :func:`check_database` does.
        pause: sleeps for a number of seconds; returns False to stop waiting.
        say: reports a sentence.

    Raises:
        SchemaError: its schema is of another version, or missing.
        DatabaseRefusedError: it cannot be used.
        DatabaseAwayError: it did not answer before ``pause`` returned False.
    """
    waits = False
    while True:
        try:
            look(url)
        except DatabaseAwayError as error:
            if not waits:
                say(f"{error}; waiting for it")
            waits = True
            if not pause(LOOK_SECONDS):
                raise
        else:
            return


def _sentence(
    error: SQLAlchemyError, where: str, *, is_server: bool
) -> DatabaseRefusedError | DatabaseAwayError:
    words = reason(error)
    if not is_server:
        return DatabaseRefusedError(
            f"{where} cannot be used: {words}; check PMAE_DATABASE_URL or PMAE_HOME"
        )
    if _PERMANENT.search(words):
        look_at = (
            "PMAE_DATABASE_USER and PMAE_DATABASE_PASSWORD, or PMAE_DATABASE_URL (in a compose "
            "deployment POSTGRES_PASSWORD in .env, which the database takes only when its volume "
            "is created: docs/operations.md)"
            if _PASSWORD.search(words)
            else "PMAE_DATABASE_HOST and PMAE_DATABASE_NAME, or PMAE_DATABASE_URL"
        )
        return DatabaseRefusedError(f"{where} refused the connection: {words}; check {look_at}")
    if isinstance(error, (OperationalError, PoolTimeoutError)):
        return DatabaseAwayError(f"{where} does not answer: {words}")
    return DatabaseRefusedError(f"{where} cannot be used: {words}")
