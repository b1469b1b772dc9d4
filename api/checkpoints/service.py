"""Find checkpoints and their files, and pin them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.db import run_states
from api.db.tables import CheckpointRow, RunRow
from api.http.errors import ConflictError, NotFoundError, ReplacedError
from api.runs.views import checkpoint_view
from pmae.runs.events import FileFacts
from pmae.runs.layout import MANIFEST_FILE, PINNED_FILE, RunDir
from pmae.schema import Checkpoint, ProblemField


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint and its folder, which may have been removed."""

    view: Checkpoint
    method: str
    folder: Path

    def file_facts(self, name: str) -> FileFacts:
        """Return digest and size of a file; those of the manifest are computed.

        Raises:
            NotFoundError: the checkpoint has no such file.
            ReplacedError: the checkpoint was replaced by a newer one.
        """
        if name in self.view.files:
            return self.view.files[name]
        if name == MANIFEST_FILE:
            try:
                data = (self.folder / name).read_bytes()
            except FileNotFoundError:
                raise self.gone() from None
            return FileFacts(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        valid = ", ".join(sorted([*self.view.files, MANIFEST_FILE]))
        message = f"the checkpoint has no file {name!r}; expected one of {valid}"
        raise NotFoundError(
            message,
            code="file_not_found",
            fields=[ProblemField(pointer="file_name", message=message)],
        )

    def gone(self) -> NotFoundError:
        """Build the error for a missing folder or file."""
        newest = f"GET /api/v1/runs/{self.view.run_id}/checkpoints lists the newest"
        if self.view.kind == "latest":
            return ReplacedError(
                f"the checkpoint {self.view.id} was replaced by a newer one; {newest}"
            )
        return NotFoundError(
            f"the files of the checkpoint {self.view.id} were removed; {newest}",
            code="checkpoint_removed",
        )


def find_checkpoint(session: Session, checkpoint_id: str, runs_dir: Path) -> StoredCheckpoint:
    """Look a checkpoint up.

    Raises:
        NotFoundError: there is no checkpoint of that id; says so if a newer one may have replaced
            it.
    """
    found = session.execute(
        select(CheckpointRow, RunRow.id, RunRow.method)
        .join(RunRow, RunRow.number == CheckpointRow.run_number)
        .where(CheckpointRow.id == checkpoint_id, RunRow.deleted_at.is_(None))
    ).one_or_none()
    if found is None:
        run_id = checkpoint_id.rpartition("-")[0]
        raise NotFoundError(
            f"there is no checkpoint {checkpoint_id}, or a newer one has replaced it; "
            f"GET /api/v1/runs/{run_id}/checkpoints lists them",
            code="checkpoint_not_found",
        )
    row, run_id, method = found
    lease = RunDir(runs_dir / run_id).lease(row.lease_number)
    parent = lease.checkpoints if row.kind == "kept" else lease.latest
    return StoredCheckpoint(checkpoint_view(row, run_id), method, parent / row.name)


def pin(session: Session, checkpoint_id: str, runs_dir: Path, *, pinned: bool) -> Checkpoint:
    """Protect a checkpoint from retention, or end the protection.

    The mark on disk decides, since the trainer that applies retention does not use the database. It
    checks for the mark after it has renamed the folder, so a mark set under the original name
    holds.

    Raises:
        NotFoundError: there is no checkpoint of that id, or it was removed meanwhile.
        ConflictError: it is a rolling checkpoint, which the next one replaces.
    """
    # A transaction that writes must write first (see api.db.session).
    run_states.hold(session, checkpoint_id.rpartition("-")[0])
    stored = find_checkpoint(session, checkpoint_id, runs_dir)
    if stored.view.kind == "latest":
        raise ConflictError(
            f"{checkpoint_id} is the rolling checkpoint, which the next one replaces; "
            "expected a kept checkpoint"
        )
    mark = stored.folder / PINNED_FILE
    try:
        if pinned:
            mark.touch()
        else:
            mark.unlink(missing_ok=True)
    except (FileNotFoundError, NotADirectoryError):
        raise stored.gone() from None
    if not (stored.folder / MANIFEST_FILE).is_file():
        raise stored.gone()
    session.execute(
        update(CheckpointRow).where(CheckpointRow.id == checkpoint_id).values(pinned=pinned)
    )
    return stored.view.model_copy(update={"pinned": pinned})
