"""Checkpoints that queued and running runs need, to start from or to evaluate.

Deletion of checkpoints and runs checks the database. A trainer that applies retention does not use
the database: for it, a checkpoint's folder holds a mark for each run that needs it.

Setting and removing marks and deletion all lock the run that wrote the checkpoint, so that they
wait for each other. A mark left by a failed transaction only protects the checkpoint from retention
until the next round removes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.checkpoints.service import StoredCheckpoint, find_checkpoint
from api.db import run_states
from api.db.run_states import UNFINISHED_STATES
from api.db.tables import RunRow
from api.http.errors import ConflictError
from pmae.runs.layout import MANIFEST_FILE, RunDir, checkpoint_id
from pmae.runs.removal import need_mark, need_marks


@dataclass(frozen=True)
class Held:
    """A kept checkpoint that cannot be deleted until the transaction ends.

    Attributes:
        parent: the run that wrote it.
        stored: the checkpoint.
    """

    parent: run_states.Parent
    stored: StoredCheckpoint

    def mark(self, run_id: str) -> None:
        """Protect it from its own run's retention until the run ``run_id`` has ended.

        Raises:
            NotFoundError: retention has just removed it.
        """
        try:
            need_mark(self.stored.folder, run_id).touch()
        except (FileNotFoundError, NotADirectoryError):
            raise self.stored.gone() from None
        if not (self.stored.folder / MANIFEST_FILE).is_file():
            raise self.stored.gone()


def hold_checkpoint(session: Session, reference: str, runs_dir: Path) -> Held:
    """Protect a checkpoint from deletion until the transaction ends.

    Args:
        session: in a transaction that has read nothing yet (see api.db.session).
        reference: ``<run id>/<checkpoint name>``.
        runs_dir: the folder of all runs.

    Raises:
        NotFoundError: there is no such checkpoint, or it was removed.
        ConflictError: it is a rolling checkpoint.
    """
    run_id, _, name = reference.partition("/")
    parent = run_states.hold(session, run_id)
    step = int(name.rpartition("-")[2])
    stored = find_checkpoint(session, checkpoint_id(run_id, step), runs_dir)
    if stored.view.kind == "latest":
        message = (
            f"{stored.view.id} is the rolling checkpoint, which the next one replaces before it is "
            "used; expected a kept checkpoint"
        )
        raise ConflictError(message, code="rolling_checkpoint")
    if parent is None or not (stored.folder / MANIFEST_FILE).is_file():
        raise stored.gone()
    return Held(parent, stored)


def release_marks(sessions: sessionmaker[Session], runs_dir: Path) -> None:
    """Remove the marks of ended runs from checkpoints of running runs."""
    with sessions() as session:
        training = session.scalars(
            select(RunRow.id).where(RunRow.state == "running", RunRow.kind == "pretrain")
        ).all()
    for run_id in training:
        marks = need_marks(RunDir(runs_dir / run_id))
        needing = {needs for _, needs in marks}
        with sessions() as session:
            ended = needing - _unfinished(session, needing)
        if not ended:
            continue
        with sessions.begin() as session:
            # A run that is being queued or resumed is visible once its transaction has ended.
            run_states.hold(session, run_id)
            ended = needing - _unfinished(session, needing)
            for mark, needs in marks:
                if needs in ended:
                    mark.unlink(missing_ok=True)


def _unfinished(session: Session, run_ids: set[str]) -> set[str]:
    known = select(RunRow.id).where(RunRow.id.in_(run_ids), RunRow.state.in_(UNFINISHED_STATES))
    return set(session.scalars(known)) if run_ids else set()
