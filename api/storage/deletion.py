"""Delete a run: a tombstone hides it at once; then its files are removed, then its rows.

A long run has millions of points; they are deleted in batches, so that others can write in between.

If the process dies, the tombstone stays and the next round continues. One event without a run is
kept, so that clients that follow runs and were offline learn of the deletion.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from threading import Event
from typing import Any

from sqlalchemy import and_, delete, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, sessionmaker

from api.db.tables import MetricBlockRow, MetricRow, RunRow
from pmae.runs.layout import RunDir
from pmae.runtime.logging import log_context

PIECE_ROWS = 10_000
"""Rows of one transaction: SQLite has one writer at a time, and the others wait for it."""
_PAUSE_SECONDS = 0.05
"""Pause after each transaction; other processes retry their writes at least this often."""
_Keys = tuple[InstrumentedAttribute[Any], ...]
_LONG_TABLES: tuple[_Keys, ...] = (
    (MetricRow.name, MetricRow.step),
    (MetricBlockRow.name, MetricBlockRow.block),
)
"""Tables with millions of rows for a run: their primary keys after the run's number."""
_logger = logging.getLogger(__name__)


def tombstones(session: Session) -> list[tuple[int, str]]:
    """List number and id of each deleted run whose files or rows are not all removed."""
    rows = session.execute(
        select(RunRow.number, RunRow.id)
        .where(RunRow.deleted_at.is_not(None))
        .order_by(RunRow.number)
    ).all()
    return [(row.number, row.id) for row in rows]


def finish_deletions(
    sessions: sessionmaker[Session], runs_dir: Path, stopping: Event | None = None
) -> list[str]:
    """Remove the files, then the rows, of every run with a tombstone. Concurrent calls are safe.

    Args:
        sessions: of the run database.
        runs_dir: the folder of all runs.
        stopping: set when the process shuts down; the next round continues.

    Returns:
        The ids of the removed runs. A run whose files cannot be removed is logged and left for the
        next round.
    """
    stopping = stopping or Event()
    with sessions() as session:
        waiting = tombstones(session)
    gone: list[str] = []
    for number, run_id in waiting:
        try:
            remove_tree(RunDir(runs_dir / run_id).path)
        except OSError as error:
            with log_context(run_id=run_id):
                _logger.warning("the files of the run cannot be removed: %s", error)
            continue
        for keys in _LONG_TABLES:
            _remove_rows(sessions, number, keys, stopping)
        if stopping.is_set():
            break
        with sessions.begin() as session:
            session.execute(delete(RunRow).where(RunRow.number == number))
        gone.append(run_id)
    return gone


def _remove_rows(
    sessions: sessionmaker[Session], run_number: int, keys: _Keys, stopping: Event
) -> None:
    """Remove a run's rows of one table in batches, each a transaction; others write in between.

    Args:
        sessions: of the run database.
        run_number: of the run.
        keys: the columns of the primary key after the run's number.
        stopping: when set, stop after the current batch.
    """
    of_run, place = keys[0].class_.run_number == run_number, tuple_(*keys)
    after: tuple[Any, ...] | None = None
    while not stopping.is_set():
        rest = of_run if after is None else and_(of_run, place > after)
        ends = select(*keys).where(rest).order_by(*keys).offset(PIECE_ROWS - 1).limit(1)
        with sessions() as session:
            last = session.execute(ends).one_or_none()
        piece = rest if last is None else and_(rest, place <= last)
        with sessions.begin() as session:
            session.execute(
                delete(keys[0].class_).where(piece).execution_options(synchronize_session=False)
            )
        if last is None:
            return
        after = tuple(last)
        stopping.wait(_PAUSE_SECONDS)


def remove_tree(folder: Path) -> None:
    """Remove a folder, which another process may be removing too.

    Raises:
        OSError: a file in it cannot be removed.
    """
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue  # removed by another process
