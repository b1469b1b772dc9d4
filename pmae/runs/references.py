"""How people name a checkpoint: by its run, by its place in the store, or by its path."""

from __future__ import annotations

from pathlib import Path

from pmae.errors import CheckpointError
from pmae.runs.checkpoints import newest_valid
from pmae.runs.layout import MANIFEST_FILE, RunDir, stored_checkpoint


def is_address(reference: str | Path) -> bool:
    """Whether this names something at a service, and no file."""
    return isinstance(reference, str) and reference.startswith(("http://", "https://"))


def find_checkpoint(reference: str | Path, runs_dir: Path) -> Path:
    """The folder of a checkpoint.

    Args:
        reference: ``<run id>/<checkpoint name>``, a checkpoint's id or ``<run id>`` of a run below
            ``runs_dir``; or the path of a checkpoint, or of a run, which means its newest valid
            checkpoint.
        runs_dir: where runs lie.

    Raises:
        CheckpointError: there is none; says where it was looked for.
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
        f"there is no checkpoint {reference}: neither {path.absolute()} is a checkpoint or a run, "
        f"nor does {runs_dir} hold it; valid are <run id>/<checkpoint name> and paths"
    )
