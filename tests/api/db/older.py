"""Databases as an older version of the service left them."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from api.db import migrations
from api.db.session import make_engine


def downgrade(url: str, revision: str) -> None:
    """Take a database's schema back to ``revision``."""
    engine = make_engine(url, pooled=False)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            # As api.db.migrate does: a table that is made anew must not take others' rows with it.
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()
