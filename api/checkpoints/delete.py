"""Delete a kept checkpoint that no run needs."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, sessionmaker

from api.checkpoints.service import StoredCheckpoint, find_checkpoint
from api.db import run_states
from api.db.clock import database_now
from api.db.tables import CheckpointRow, RunEventRow, RunRow
from api.http.errors import ConflictError
from api.storage.deletion import remove_tree
from pmae.runs.removal import hidden_name, hide_unless_marked, need_marks_in
from pmae.schema import TERMINAL_STATES

_logger = logging.getLogger(__name__)


def delete_checkpoint(
    sessions: sessionmaker[Session], checkpoint_id: str, runs_dir: Path, *, actor: str
) -> None:
    """Remove a checkpoint's files and its row. Results measured on it stay with its run.

    The transaction hides the folder in one step. The files, which can be gigabytes, are removed
    after the commit; if the process dies in between, they are garbage
    (:mod:`api.storage.collector`).

    Raises:
        NotFoundError: there is no checkpoint of that id.
        ConflictError: it is pinned, it is a rolling one, or a run that has not ended needs it.
    """
    with sessions.begin() as session:
        folder = _hide(session, checkpoint_id, runs_dir, actor)
    try:
        remove_tree(hidden_name(folder))
    except OSError as error:
        _logger.warning(
            "files of the deleted checkpoint %s cannot be removed: %s", checkpoint_id, error
        )


def _hide(session: Session, checkpoint_id: str, runs_dir: Path, actor: str) -> Path:
    """Delete the row and hide the folder; return the folder's former path."""
    # Lock its run, so that no run that needs it is queued; and write before the first read.
    run_states.hold(session, checkpoint_id.rpartition("-")[0])
    stored = find_checkpoint(session, checkpoint_id, runs_dir)
    _refuse_if_needed(session, stored)
    for mark, _ in need_marks_in(stored.folder):
        mark.unlink(missing_ok=True)  # marks of ended runs
    if not hide_unless_marked(stored.folder):
        raise _pinned(stored)
    row = session.execute(
        delete(CheckpointRow)
        .where(CheckpointRow.id == checkpoint_id)
        .returning(CheckpointRow.run_number)
    ).one_or_none()
    if row is not None:
        session.add(
            RunEventRow(
                run_number=row.run_number,
                at=database_now(),
                type="checkpoint",
                actor=actor,
                message=f"deleted the checkpoint {stored.view.name}",
                data={"name": stored.view.name, "step": stored.view.step},
            )
        )
    return stored.folder


def _refuse_if_needed(session: Session, stored: StoredCheckpoint) -> None:
    view = stored.view
    if view.kind == "latest":
        raise ConflictError(f"{view.id} is the rolling checkpoint, which the next one replaces")
    if view.pinned:
        raise _pinned(stored)
    run = session.scalars(select(RunRow).where(RunRow.id == view.run_id)).one()
    newest = session.scalar(
        select(func.max(CheckpointRow.step)).where(CheckpointRow.run_number == run.number)
    )
    if run.state not in TERMINAL_STATES and view.step == newest:
        raise ConflictError(
            f"{view.id} is the newest checkpoint of a run that is {run.state}, which would "
            "continue from it"
        )
    needs = run_states.who_needs(session, view.run_id, view.name)
    if needs is not None:
        raise ConflictError(f"{view.id} is needed by run {needs.id}, which is {needs.state}")


def _pinned(stored: StoredCheckpoint) -> ConflictError:
    return ConflictError(
        f"{stored.view.id} is pinned; PATCH it with pinned false first", code="checkpoint_pinned"
    )
