"""Copy a SQLite database, and restore the copy, by SQLite's online backup.

Copying is one read transaction, during which the service can write. Restoring is one transaction of
the target: if the process is killed, the file stays unchanged.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL, Engine
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
)
from api.db.migrate import upgrade
from api.db.session import make_engine

_FILE = f"{DATABASE_FOLDER}/pmae.sqlite3.gz"
_LOCKED_SECONDS = 2.0


def dump(engine: Engine, folder: Path) -> Dumped:
    """Copy a snapshot of the database.

    Args:
        engine: of the database.
        folder: of the new generation.

    Raises:
        BackupError: this version does not know its schema.
    """
    (folder / DATABASE_FOLDER).mkdir()
    copy = folder / DATABASE_FOLDER / "pmae.sqlite3"
    with (
        _converted_errors(_file(engine)),
        closing(sqlite3.connect(copy)) as target,
        closing(sqlite3.connect(_file(engine))) as live,
    ):
        live.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
    copied = make_engine(_url(copy), pooled=False)
    with copied.connect() as connection:
        revision = revision_to_copy(connection)
        run_ids, num_runs = runs_to_copy(connection)
    copied.dispose()
    with closing(sqlite3.connect(copy)) as target:
        target.execute("PRAGMA journal_mode = DELETE")  # the engine has set WAL
    with copy.open("rb") as file, gzip.open(folder / _FILE, "xb", compresslevel=1) as out:
        shutil.copyfileobj(file, out, CHUNK_BYTES)
    copy.unlink()
    return Dumped(DatabaseDump(kind="sqlite", revision=revision), run_ids, num_runs)


def load(engine: Engine, generation: Generation, settle: Callable[[Session], None]) -> None:
    """Restore the database in one transaction, completely or not at all.

    Args:
        engine: of an empty database, with or without tables.
        generation: whose files were verified.
        settle: called after the upgrade to this version's schema, before the copy is published.

    Raises:
        BackupError: the database is in use or not empty, or the backup is incompatible.
    """
    target = _file(engine)
    new = target.with_name(f".{target.name}.restoring")
    _remove(new)
    try:
        with gzip.open(generation.folder / _FILE) as file, new.open("xb") as out:
            shutil.copyfileobj(file, out, CHUNK_BYTES)
        upgrade(_url(new))
        prepared = make_engine(_url(new), pooled=False)
        with Session(prepared) as session, session.begin():
            settle(session)
        prepared.dispose()
        with _converted_errors(target):
            _publish(new, target)
    finally:
        _remove(new)


def refuse_in_use(engine: Engine) -> None:
    """Refuse a database that is in use: other processes would see a partial restore.

    Raises:
        BackupError: it is in use.
    """
    if not _file(engine).is_file():
        return
    with engine.connect() as looking:
        workers = workers_heard_of(looking)
    if workers:
        raise BackupError(
            f"the database {_file(engine)} is in use: the worker {', '.join(workers)} is up. Stop "
            f"it first; {WORKER_HINT}"
        )
    with closing(sqlite3.connect(_file(engine), timeout=_LOCKED_SECONDS)) as connection:
        _take_alone(connection, _file(engine))


def _publish(new: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(new)) as source,
        closing(sqlite3.connect(target, timeout=_LOCKED_SECONDS)) as connection,
    ):
        source.execute("PRAGMA journal_mode = DELETE")
        _take_alone(connection, target)
        engine = make_engine(_url(target), pooled=False)
        with engine.connect() as looking:
            held = why_not_empty(looking)
        engine.dispose()
        if held:
            raise BackupError(f"the database is not empty: it holds {held}")
        _take_alone(connection, target)
        source.backup(connection)


def _take_alone(connection: sqlite3.Connection, path: Path) -> None:
    """Leave WAL mode, which SQLite allows only if no other process has the file open.

    Raises:
        BackupError: another process has it open.
    """
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.OperationalError as error:
        mode = str(error)
    if mode != "delete":
        raise BackupError(
            f"the database {path} is in use ({mode}). Stop the service first: Ctrl-C where `pmae "
            "up` runs, and every other API and worker"
        )


@contextmanager
def _converted_errors(path: Path) -> Iterator[None]:
    """Convert SQLite's errors: a full disk to the system's error, others to a sentence."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise BackupError(f"the database {path} cannot be copied: {error}") from error


def _file(engine: Engine) -> Path:
    assert engine.url.database is not None
    return Path(engine.url.database)


def _url(path: Path) -> str:
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        path.with_name(name).unlink(missing_ok=True)
