"""The database's part of a backup, common to both databases.

All tables are copied from one snapshot: see :mod:`api.backup.postgresql` and
:mod:`api.backup.sqlite`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sqlalchemy import Engine, MetaData, Table, func, inspect, null, select
from sqlalchemy.engine import Connection

from api.backup.manifest import BackupError, DatabaseDump, DatabaseKind
from api.db.clock import database_now
from api.db.revision import revision_of, revisions
from api.db.tables import ApiKeyRow, RunRow, WorkerRow
from pmae import __version__


@dataclass(frozen=True)
class Dumped:
    """A copied database.

    Attributes:
        dump: description of the copy.
        run_ids: of the runs whose files belong to the backup, oldest first.
        num_runs: number of runs, including deleted ones with a tombstone.
    """

    dump: DatabaseDump
    run_ids: list[str]
    num_runs: int


_WORKER_SILENCE_SECONDS = 30.0
WORKER_HINT = f"a killed worker counts as up for {_WORKER_SILENCE_SECONDS:g} s"


def kind_of(engine: Engine) -> DatabaseKind:
    """Return the kind of a database."""
    return cast(DatabaseKind, engine.dialect.name)


def revision_to_copy(connection: Connection) -> str:
    """Read the revision of a database's schema.

    Raises:
        BackupError: this version does not know the revision, and so could not restore the backup.
    """
    revision = revision_of(connection)
    known = revisions()
    if revision not in known:
        raise BackupError(
            f"the database has the schema {revision or 'of no version'}, and pmae {__version__} "
            f"knows {known[0]} to {known[-1]}: make the backup with the version that runs on it"
        )
    return revision


def runs_to_copy(connection: Connection) -> tuple[list[str], int]:
    """Read the ids of the runs that are not deleted, oldest first, and the number of all runs.

    Works with any schema; the oldest ones have no tombstones.
    """
    runs = Table(RunRow.__tablename__, MetaData(), autoload_with=connection)
    deleted = runs.c.get("deleted_at", default=null())
    rows = connection.execute(select(runs.c.id, deleted).order_by(runs.c.number)).all()
    return [run_id for run_id, deleted_at in rows if deleted_at is None], len(rows)


def why_not_empty(connection: Connection) -> str | None:
    """Describe what a restore would overwrite in a database; None if it is empty.

    Raises:
        BackupError: this version does not know its schema.
    """
    tables = inspect(connection).get_table_names()
    revision = revision_of(connection)
    if revision is not None and revision not in revisions():
        raise BackupError(
            f"the database to restore into has the schema {revision}, which pmae {__version__} "
            "does not know: restore with the version that made it, or into a new database"
        )
    found = []
    for row, what in ((RunRow, "runs"), (ApiKeyRow, "API keys")):
        if row.__tablename__ in tables:
            table = Table(row.__tablename__, MetaData(), autoload_with=connection)
            count = connection.scalar(select(func.count()).select_from(table))
            if count:
                found.append(f"{count:,} {what}")
    return " and ".join(found) or None


def workers_heard_of(connection: Connection) -> list[str]:
    """Read the names of the workers that are up, by their heartbeats; they keep no connection."""
    if not inspect(connection).has_table(WorkerRow.__tablename__):
        return []
    since = database_now() - _WORKER_SILENCE_SECONDS
    return list(connection.scalars(select(WorkerRow.name).where(WorkerRow.last_seen_at > since)))
