"""The migrations make the tables that the code uses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from api.db.migrate import upgrade
from api.db.session import make_engine
from api.db.tables import Base


def test_the_schema_is_that_of_the_tables(database_url: str) -> None:
    upgrade(database_url)
    engine = make_engine(database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_two_migrations_may_start_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite3'}"
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(upgrade, url)
        upgrade(url)
        other.result()
    engine = make_engine(url)
    assert "runs" in inspect(engine).get_table_names()
    engine.dispose()
