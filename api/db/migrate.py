"""Bring the database's schema up to date: ``python -m api.db.migrate``."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import Connection

from api.db.session import make_engine
from pmae.logs import configure_logging
from pmae.settings import ServiceSettings

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x706D6165
"""Key of the PostgreSQL advisory lock: "pmae"."""


def upgrade(url: str, revision: str = "head") -> None:
    """Run the migrations that are missing, in one transaction; safe when two start at once.

    Args:
        url: SQLAlchemy URL.
        revision: up to this one.
    """
    engine = make_engine(url, pooled=False)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # A write lock before anything is read; the transaction itself has begun by then.
            connection.exec_driver_sql("COMMIT")
            # SQLite changes a table by making it anew, and dropping the old one would take with it
            # the rows of other tables that refer to it. Only outside of a transaction it obeys.
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            wait_for_turn(connection)
        run_migrations(connection, revision)
        connection.commit()
    engine.dispose()


def wait_for_turn(connection: Connection) -> None:
    """Let nobody else migrate this PostgreSQL database until the transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def run_migrations(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that are missing in the transaction of ``connection``.

    Args:
        connection: to the database.
        revision: up to this one.
    """
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def known_revisions() -> list[str]:
    """Every revision of the schema that this version knows, oldest first."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return [script.revision for script in scripts][::-1]


def current_revision(connection: Connection) -> str | None:
    """The revision of a database's schema; None if nobody has migrated it yet."""
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


if __name__ == "__main__":
    settings = ServiceSettings()
    configure_logging(settings.log_format)
    upgrade(settings.sqlalchemy_url)
