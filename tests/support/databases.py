"""Empty, migrated databases, copied from one that the migrations made once."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg

from api.db.migrate import upgrade


class Databases:
    """Makes databases: the migrations run for the first one of a kind, and the rest are copies.

    Args:
        folder: of the SQLite file that is copied.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._migrated_file = cache(self._migrate_file)
        self._migrated_database = cache(self._migrate_database)

    def sqlite(self, path: Path) -> str:
        """Make a SQLite database at ``path``; returns its URL."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._migrated_file(), path)
        return f"sqlite:///{path}"

    @contextmanager
    def postgresql(self, server: str) -> Iterator[str]:
        """Make a PostgreSQL database for the block; gives its URL.

        Args:
            server: address of the server's maintenance database, ``postgresql://.../postgres``.
        """
        template = self._migrated_database(server)
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        yield _url(server, name)
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _migrate_file(self) -> Path:
        path = self._folder / "migrated.sqlite3"
        upgrade(f"sqlite:///{path}")
        return path

    def _migrate_database(self, server: str) -> str:
        name = "migrated"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        upgrade(_url(server, name))
        return name


def _url(server: str, name: str) -> str:
    return server.replace("postgresql://", "postgresql+psycopg://").replace("/postgres", f"/{name}")
