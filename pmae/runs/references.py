"""Resolve references to a checkpoint: by its run, by its place in the store, or by its path."""

from __future__ import annotations

from pathlib import Path

from pmae.errors import CheckpointError
from pmae.runs.checkpoints import newest_valid
from pmae.runs.layout import MANIFEST_FILE, RunDir, stored_checkpoint


def is_address(reference: str | Path) -> bool:
    """Return True if the reference is a URL, not a local path."""
    return isinstance(reference, str) and reference.startswith(("http://", "https://"))


def find_checkpoint(reference: str | Path, runs_dir: Path) -> Path:
    """Find the folder of a checkpoint.

    Args:
        reference: ``<run id>/<checkpoint name>``, a checkpoint's id or a run's id below
            ``runs_dir``; or the path of a checkpoint or run. A run stands for its newest valid
            checkpoint.
        runs_dir: folder of the runs.

    Raises:
        CheckpointError: there is no such checkpoint; the message has the searched places.
    """
    stored = stored_checkpoint(runs_dir, str(reference))
    if stored:
        return stored
    path = Path(reference).expanduser()
    if (path / MANIFEST_FILE).is_file():
        return path
    for run in (RunDir(path), RunDir(runs_dir / path.name)):
        if run.leases():
            checkpoint, skipped = newest_valid(run)
            if checkpoint:
                return checkpoint
            why = f": {'; '.join(skipped)}" if skipped else " yet"
            raise CheckpointError(f"the run {run.path} has no valid checkpoint{why}")
    raise CheckpointError(
        f"there is no checkpoint {reference}: {path.absolute()} is neither a checkpoint nor a run, "
        f"and {runs_dir} does not hold it; expected <run id>/<checkpoint name> or a path"
    )
