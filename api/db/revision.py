"""Revision of the database's schema: this version of the service works with one, and no other.

An older worker once went on after a migration and wrote points that no curve showed. So API and
worker read the revision when they start and while they run.
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
    """Revisions that this version knows, oldest first; the last is the one that it works with."""
    from alembic.script import ScriptDirectory  # of all commands only these need it

    script = ScriptDirectory(str(MIGRATIONS))
    return tuple(reversed([each.revision for each in script.walk_revisions()]))


def hold_revision(connection: Connection) -> str | None:
    """Read the revision, and let no :func:`current_schema` begin until the transaction ends.

    On SQLite the transaction must hold the write lock.
    """
    found = revision_of(connection)
    if found is not None and connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {_TABLE} IN ACCESS EXCLUSIVE MODE"))
    return found


def revision_of(connection: Connection) -> str | None:
    """Read the database's revision; None: it has no tables of this service."""
    if not inspect(connection).has_table(_TABLE):
        return None
    return connection.execute(_REVISION).scalar_one_or_none()


@contextmanager
def current_schema(session: Session) -> Iterator[None]:
    """Fence what a transaction writes: it counts only while the schema is this version's.

    One SELECT. A migration that is under way is waited for, and one that begins waits for this
    transaction. PostgreSQL is asked first, so that both take their locks in one order; SQLite last,
    since there a transaction that reads first could not wait for another writer.

    Raises:
        SchemaError: somebody has migrated the database since this process started; what was
            written is undone with the error.
    """
    is_postgres = session.get_bind().dialect.name == "postgresql"
    if is_postgres:
        require_current(session)
    yield
    if not is_postgres:
        require_current(session)


def require_current(session: Session) -> None:
    """Check the revision of a database that had tables when this process started.

    Raises:
        SchemaError: somebody has migrated it since.
    """
    check_revision(session.execute(_REVISION).scalar_one_or_none(), "the database")


def check_revision(found: str | None, where: str) -> None:
    """Check that this version works with a database.

    Args:
        found: its revision.
        where: for the message, as ``the database at db:5432``.

    Raises:
        SchemaError: it is another revision; says what to do.
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
