"""Deleting a run: a tombstone hides it at once, then its files go, then its rows.

A process that dies in between leaves a tombstone, and the next round goes on from there. What stays
is one event of no run, so that who follows runs and was away learns of it.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, sessionmaker

from api.db.tables import RunRow
from pmae.layout import RunDir
from pmae.logs import log_context

_logger = logging.getLogger(__name__)


def tombstones(session: Session) -> list[tuple[int, str]]:
    """Number and id of each run that is deleted but for what is left of it."""
    rows = session.execute(
        select(RunRow.number, RunRow.id)
        .where(RunRow.deleted_at.is_not(None))
        .order_by(RunRow.number)
    ).all()
    return [(row.number, row.id) for row in rows]


def finish_deletions(sessions: sessionmaker[Session], runs_dir: Path) -> list[str]:
    """Remove the files, then the rows, of every run with a tombstone. Safe to run twice at once.

    Returns:
        The ids of the runs that are gone. One whose files cannot be removed is left for the next
        round, and the log says why.
    """
    with sessions() as session:
        waiting = tombstones(session)
    gone: list[str] = []
    for number, run_id in waiting:
        try:
            remove_tree(RunDir(runs_dir / run_id).path)
        except OSError as error:
            with log_context(run_id=run_id):
                _logger.warning("its files cannot be removed: %s", error)
            continue
        with sessions.begin() as session:
            session.execute(delete(RunRow).where(RunRow.number == number))
        gone.append(run_id)
    return gone


def remove_tree(folder: Path) -> None:
    """Remove a folder, which another process may be removing too.

    Raises:
        OSError: a file of it cannot be removed.
    """
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue  # the other process was faster with a part of it
