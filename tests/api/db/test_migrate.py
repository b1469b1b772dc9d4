"""The migrations make the tables that the code uses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import JSON, Column, MetaData, Table, insert, inspect, select

from api.db.migrate import upgrade
from api.db.session import make_engine
from api.db.tables import Base, RunEventRow
from tests.api.db.older import downgrade


def test_the_schema_is_that_of_the_tables(database_url: str) -> None:
    upgrade(database_url)
    engine = make_engine(database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_a_downgrade_drops_what_the_older_schema_cannot_hold(database_url: str) -> None:
    upgrade(database_url)
    engine = make_engine(database_url, pooled=False)
    event = {"at": 1.0, "type": "delete", "actor": "api", "message": "deleted", "data": {}}
    with engine.begin() as connection:
        connection.execute(insert(RunEventRow).values(run_number=None, key="a", **event))
    downgrade(database_url, "0003")
    columns = {column["name"]: column for column in inspect(engine).get_columns("run_events")}
    assert columns["run_number"]["nullable"] is False
    with engine.connect() as connection:
        assert connection.execute(select(RunEventRow.id)).all() == []
    engine.dispose()
    upgrade(database_url)


def test_two_migrations_may_start_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite3'}"
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(upgrade, url)
        upgrade(url)
        other.result()
    engine = make_engine(url)
    assert "runs" in inspect(engine).get_table_names()
    engine.dispose()


def test_what_is_there_survives_the_upgrade_of_a_sqlite_file(tmp_path: Path) -> None:
    """SQLite makes a changed table anew; rows that refer to a run must not go with the old one."""
    url = f"sqlite:///{tmp_path / 'old.sqlite3'}"
    upgrade(url, "0002")
    engine = make_engine(url, pooled=False)
    filled: dict[str, dict[str, object]] = {}
    with engine.begin() as old:
        for name in ("runs", "run_events", "metrics", "checkpoints", "evaluations"):
            table = Table(name, MetaData(), autoload_with=old)
            filled[name] = {c.name: _something(c) for c in table.columns if not c.nullable}
            old.execute(insert(table).values(filled[name]))
    upgrade(url)
    with engine.connect() as new:
        for name, values in filled.items():
            table = Table(name, MetaData(), autoload_with=new)
            rows = new.execute(select(*(table.c[column] for column in values))).all()
            assert [row._asdict() for row in rows] == [values], name
        assert new.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def _something(column: Column[Any]) -> object:
    """A value of the column's type; each row is of run 1."""
    return {} if isinstance(column.type, JSON) else column.type.python_type(1)
