"""Copy a PostgreSQL database, and restore the copy.

Uses ``COPY`` of each table in one REPEATABLE READ transaction. pg_dump is not in the images,
refuses servers newer than itself, and its archives need a server that is not older. Rows as text,
with the revision of the schema, can be restored into any server: the migrations create the tables
of that revision, and then upgrade them. Rows are copied in blocks, so that memory use is bounded.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine, func, inspect, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from api.backup.database import (
    WORKER_HINT,
    Dumped,
    revision_to_copy,
    runs_to_copy,
    why_not_empty,
    workers_heard_of,
)
from api.backup.manifest import (
    CHUNK_BYTES,
    DATABASE_FOLDER,
    BackupError,
    DatabaseDump,
    Generation,
    TableDump,
)
from api.db.migrate import run_migrations, wait_for_turn
from api.db.revision import revisions
from api.db.tables import Base

_VERSION_TABLE = "alembic_version"
_LOCK_TIMEOUT = "10s"
"""No other client is connected, so no lock should be held."""


def dump(engine: Engine, folder: Path) -> Dumped:
    """Copy a snapshot of the database.

    Args:
        engine: of the database.
        folder: of the new generation.

    Raises:
        BackupError: this version does not know its schema.
    """
    (folder / DATABASE_FOLDER).mkdir()
    snapshot = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with snapshot.connect() as connection:
        revision = revision_to_copy(connection)
        run_ids, num_runs = runs_to_copy(connection)
        tables = [_dump_table(connection, name, folder) for name in _tables(connection, revision)]
    return Dumped(
        DatabaseDump(kind="postgresql", revision=revision, tables=tables), run_ids, num_runs
    )


def _tables(connection: Connection, revision: str) -> list[str]:
    """List the tables to copy, each after those that it references."""
    found = inspect(connection).get_sorted_table_and_fkc_names()
    names = [name for name, _ in found if name is not None and name != _VERSION_TABLE]
    if revision == revisions()[-1]:
        return [name for name in names if name in Base.metadata.tables]
    return names


def _dump_table(connection: Connection, name: str, folder: Path) -> TableDump:
    columns = [column["name"] for column in inspect(connection).get_columns(name)]
    file = f"{DATABASE_FOLDER}/{name}.copy.gz"
    statement = sql.SQL("COPY {} ({}) TO STDOUT").format(*_names(name, columns))
    with (
        gzip.open(folder / file, "xb", compresslevel=1) as out,
        _driver(connection).cursor() as cursor,
    ):
        try:
            with cursor.copy(statement) as rows:
                for block in rows:
                    out.write(block)
        except psycopg.Error as error:
            raise BackupError(f"the table {name} cannot be copied: {_message(error)}") from error
        count = cursor.rowcount
    sequences = {
        column: _last_value(connection, sequence)
        for column in columns
        if (sequence := _sequence(connection, name, column)) is not None
    }
    return TableDump(name=name, file=file, columns=columns, rows=count, sequences=sequences)


def refuse_in_use(connection: Connection) -> None:
    """Refuse a database that is in use: other clients would see a partial restore.

    Raises:
        BackupError: names the clients.
    """
    others = connection.execute(
        text(
            "SELECT count(*) AS number, string_agg(DISTINCT coalesce(host(client_addr), 'local'), "
            "', ') AS hosts FROM pg_stat_activity WHERE datname = current_database() AND "
            "usename = current_user AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    ).one()
    workers = workers_heard_of(connection)
    found = [f"{others.number} connections (from {others.hosts})"] if others.number else []
    found += [f"the worker {name}" for name in workers]
    if found:
        raise BackupError(
            f"the database is in use: {', '.join(found)}. Stop API and workers first (`docker "
            f"compose stop api worker`); {WORKER_HINT}"
        )


def load(engine: Engine, generation: Generation, settle: Callable[[Session], None]) -> None:
    """Restore the database in one transaction, completely or not at all.

    Args:
        engine: of an empty database, with or without tables.
        generation: whose files were verified.
        settle: called in the transaction, after the upgrade to this version's schema.

    Raises:
        BackupError: the database is in use or not empty, or the backup is incompatible.
    """
    dump = generation.manifest.database
    with engine.connect() as connection:
        wait_for_turn(connection)
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        refuse_in_use(connection)
        held = why_not_empty(connection)
        if held:
            raise BackupError(f"the database is not empty: it holds {held}")
        Base.metadata.drop_all(connection)
        connection.execute(text(f"DROP TABLE IF EXISTS {_VERSION_TABLE}"))
        run_migrations(connection, dump.revision)
        for table in dump.tables:
            _load_table(connection, table, generation.folder / table.file)
        run_migrations(connection)
        with Session(connection) as session, session.begin():
            settle(session)
        connection.commit()


def _load_table(connection: Connection, table: TableDump, file: Path) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(*_names(table.name, table.columns))
    try:
        with gzip.open(file) as rows, _driver(connection).cursor() as cursor:
            with cursor.copy(statement) as copy:
                while block := rows.read(CHUNK_BYTES):
                    copy.write(block)
            count = cursor.rowcount
    except psycopg.Error as error:
        raise BackupError(
            f"the rows of {table.name} cannot be restored: {_message(error)}"
        ) from error
    if count != table.rows:
        raise BackupError(
            f"{file} has {count:,} rows; expected {table.rows:,}, as the manifest says"
        )
    for column, last in table.sequences.items():
        sequence = _sequence(connection, table.name, column)
        if sequence is not None and last is not None:
            connection.execute(select(func.setval(sequence, last)))


def _names(table: str, columns: list[str]) -> tuple[sql.Composable, sql.Composable]:
    return sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _sequence(connection: Connection, table: str, column: str) -> str | None:
    """Find the full name of the sequence of a column, if it has one."""
    found = select(func.pg_get_serial_sequence(table, column))
    sequence: str | None = connection.scalar(found)
    return sequence


def _last_value(connection: Connection, sequence: str) -> int | None:
    """Read the last value of a sequence; None if unused. Rows may be older, never newer."""
    row = connection.exec_driver_sql(f"SELECT last_value, is_called FROM {sequence}").one()  # noqa: S608
    return int(row.last_value) if row.is_called else None


def _message(error: psycopg.Error) -> str:
    """Return the server's message on one line."""
    return " ".join(str(error).split())
