"""Revision of the database's schema: this version of the service works with exactly one.

An older worker that runs on after a migration would write points that no curve shows. So API and
worker check the revision when they start and while they run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.orm import Session

from api.db.errors import SchemaError
from pmae import __version__

MIGRATIONS = Path(__file__).parent / "migrations"
_TABLE = "alembic_version"
_REVISION = text(f"SELECT version_num FROM {_TABLE}")  # noqa: S608 - a constant
MIGRATE = (
    "`python -m api.db.migrate` brings it up to date; in a compose deployment: "
    "`docker compose run --rm migrate`"
)


@lru_cache(maxsize=1)
def revisions() -> tuple[str, ...]:
    """List the revisions that this version knows, oldest first; it works with the last."""
    from alembic.script import ScriptDirectory  # slow to import, and few commands need it

    script = ScriptDirectory(str(MIGRATIONS))
    return tuple(reversed([each.revision for each in script.walk_revisions()]))


def hold_revision(connection: Connection) -> str | None:
    """Read the revision, and block every :func:`current_schema` until the transaction ends.

    On SQLite the transaction must hold the write lock.
    """
    found = revision_of(connection)
    if found is not None and connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {_TABLE} IN ACCESS EXCLUSIVE MODE"))
    return found


def revision_of(connection: Connection) -> str | None:
    """Read the database's revision; None if it has no tables of this service."""
    if not inspect(connection).has_table(_TABLE):
        return None
    return connection.execute(_REVISION).scalar_one_or_none()


@contextmanager
def current_schema(session: Session) -> Iterator[None]:
    """Roll a transaction back unless the schema is still this version's.

    Costs one SELECT. This transaction and a migration wait for each other. PostgreSQL is asked
    first, so that both take their locks in the same order; SQLite last, since there a transaction
    that reads before it writes cannot wait for another writer.

    Raises:
        SchemaError: the database was migrated since this process started; the transaction is
            rolled back.
    """
    is_postgres = session.get_bind().dialect.name == "postgresql"
    if is_postgres:
        require_current(session)
    yield
    if not is_postgres:
        require_current(session)


def require_current(session: Session) -> None:
    """Check the revision of the database while the process runs.

    Raises:
        SchemaError: the database was migrated since this process started.
    """
    check_revision(session.execute(_REVISION).scalar_one_or_none(), "the database")


def check_revision(found: str | None, where: str) -> None:
    """Check that this version works with a database of revision ``found``.

    Args:
        found: its revision.
        where: for the message, as ``the database at db:5432``.

    Raises:
        SchemaError: it needs another revision; says how to get it.
    """
    check_not_newer(found, where)
    *_, needed = revisions()
    if found is None:
        raise SchemaError(f"{where} has no tables of this service yet: {MIGRATE}")
    if found != needed:
        raise SchemaError(
            f"the schema of {where} has the revision {found}, and this version "
            f"({__version__}) needs {needed}: {MIGRATE}"
        )


def check_not_newer(found: str | None, where: str) -> None:
    """Check that a database can be migrated.

    Raises:
        SchemaError: a newer version of the service has migrated it.
    """
    *_, needed = revisions()
    if found is not None and found not in revisions():
        raise SchemaError(
            f"the schema of {where} has the revision {found}, which this version "
            f"({__version__}) does not know: a newer one has migrated it, and this one needs "
            f"{needed}. Update this service, or restore the backup from before the migration"
        )
