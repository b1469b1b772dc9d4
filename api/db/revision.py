"""Revision of the database's schema: this version of the service works with one, and no other.

An older worker once went on after a migration and wrote points that no curve showed. So API and
worker read the revision when they start and while they run.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.orm import Session

from api.db.errors import SchemaError

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


def revision_of(connection: Connection) -> str | None:
    """Read the database's revision; None: it has no tables of this service."""
    if not inspect(connection).has_table(_TABLE):
        return None
    return connection.execute(_REVISION).scalar_one_or_none()


def require_current(session: Session) -> None:
    """Check the revision of a database that had tables when this process started: one SELECT.

    Call it after the transaction's first write: on SQLite one that reads first could not wait for
    another writer. What was written is undone with the error.

    Raises:
        SchemaError: somebody migrated the database meanwhile.
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
            f"({version('pmae')}) needs {needed}: {MIGRATE}"
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
            f"({version('pmae')}) does not know: a newer one has migrated it, and this one needs "
            f"{needed}. Update this service, or restore the backup from before the migration"
        )
