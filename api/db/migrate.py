"""Bring the database's schema up to date: ``python -m api.db.migrate``."""

from __future__ import annotations

import sys
import time

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from api.db.opening import describe, opened, wait_for_database
from api.db.revision import MIGRATIONS, check_not_newer, hold_revision, revisions
from api.db.settings import ServiceSettings
from pmae.errors import PmaeError
from pmae.runtime.logging import configure_logging
from pmae.settings import load_settings

_LOCK = 0x706D6165
"""Key of the PostgreSQL advisory lock: "pmae" in ASCII."""
_WAIT_SECONDS = 60.0
"""Time for a database to start."""


def upgrade(url: str, revision: str = "head") -> None:
    """Run the missing migrations in one transaction; two concurrent calls are safe.

    Args:
        url: SQLAlchemy URL.
        revision: the last one to run.

    Raises:
        SchemaError: a newer version of the service has migrated the database.
        DatabaseRefusedError: the database cannot be used.
        DatabaseAwayError: it does not answer.
    """
    with opened(url) as engine, engine.connect() as connection:
        found = begin_migration(connection)
        check_not_newer(found, describe(url))
        if found != revisions()[-1]:
            run_migrations(connection, revision)
        connection.commit()


def begin_migration(connection: Connection) -> str | None:
    """Keep other migrations and older workers out until the transaction ends.

    Returns:
        The revision of the database; None if it has no tables of this service.
    """
    if connection.dialect.name == "sqlite":
        # Take the write lock before anything is read.
        connection.exec_driver_sql("COMMIT")
        # SQLite changes a table by copying it, and dropping the old one would delete the rows of
        # other tables that refer to it. The pragma has no effect within a transaction.
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        wait_for_turn(connection)
    return hold_revision(connection)


def main() -> None:
    """Migrate the database named by the environment; wait up to a minute for it to start."""
    deadline = time.monotonic() + _WAIT_SECONDS

    def pause(seconds: float) -> bool:
        time.sleep(seconds)
        return time.monotonic() < deadline

    try:
        settings = load_settings(ServiceSettings)
        configure_logging(settings.log_format)
        wait_for_database(settings.sqlalchemy_url, look=upgrade, pause=pause, say=_say)
    except PmaeError as error:
        sys.exit(f"migrate: {error}")


def _say(message: str) -> None:
    sys.stderr.write(f"migrate: {message}\n")
    sys.stderr.flush()


def wait_for_turn(connection: Connection) -> None:
    """Wait for other migrations of this PostgreSQL database, and block them until the commit."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def run_migrations(connection: Connection, revision: str = "head") -> None:
    """Run the missing migrations in the transaction of ``connection``.

    Args:
        connection: to the database.
        revision: the last one to run.
    """
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


if __name__ == "__main__":
    main()
