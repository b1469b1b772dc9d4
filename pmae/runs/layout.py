"""Layout of a run's folder. All paths inside a run are built here.

::

    RUN_DIR/
      spec.json                        the resolved spec
      lease-0001/                      one folder per lease: a process that trained the run
        events.jsonl                   events, append-only (pmae.runs.events)
        train.log                      the trainer's standard output and error
        checkpoints/step-00000640/     kept checkpoints (pmae.runs.checkpoints)
        latest/step-00000712/          rolling checkpoint, replaced by newer checkpoints
        filmstrip/step-00000640.npz    reconstructions after that step (pmae.runs.frames)
      lease-0002/ ...

Only a lease's own trainer writes its folder, so that a zombie of an older lease does no harm and
nothing is appended to a torn last line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODEL_FILE = "model.safetensors"
"""File of a checkpoint with the weights."""
CONFIG_FILE = "config.json"
"""File of a checkpoint with the spec, and the digests of its data and its basis."""
MANIFEST_FILE = "manifest.json"
"""File of a checkpoint with the names and SHA-256 of the others; without it there is none."""
BASES_FOLDER = "bases"
"""Folder of fitted bases, at the service or in a downloaded checkpoint's folder."""
PINNED_FILE = "pinned"
"""Empty file in the folder of a pinned checkpoint, which retention does not remove."""
_LEASE = re.compile(r"lease-(\d{4,})")
_STORED_CHECKPOINT = re.compile(r"([0-9a-f]{8,32})/(step-\d{8,12})")
_CHECKPOINT_ID = re.compile(r"([0-9a-f]{8,32})-(\d{8,12})")


@dataclass(frozen=True)
class LeaseDir:
    """One lease's folder of a run."""

    path: Path
    number: int

    @property
    def events(self) -> Path:
        """The append-only event file."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """File with the trainer's output."""
        return self.path / "train.log"

    @property
    def checkpoints(self) -> Path:
        """Folder of the kept checkpoints."""
        return self.path / "checkpoints"

    @property
    def latest(self) -> Path:
        """Folder of the rolling checkpoint."""
        return self.path / "latest"

    @property
    def filmstrip(self) -> Path:
        """Folder of the filmstrip's frames."""
        return self.path / "filmstrip"


@dataclass(frozen=True)
class RunDir:
    """A run's folder."""

    path: Path

    @property
    def spec(self) -> Path:
        """The resolved spec as JSON."""
        return self.path / "spec.json"

    def lease(self, number: int) -> LeaseDir:
        """Return the folder of lease ``number`` (from 1), which need not exist."""
        if number < 1:
            raise ValueError(f"lease numbers start at 1, got {number}")
        return LeaseDir(self.path / f"lease-{number:04d}", number)

    def leases(self) -> list[LeaseDir]:
        """List the leases whose folders exist, oldest first."""
        return sorted(self._found(), key=lambda lease: lease.number)

    def checkpoint(self, name: str) -> Path | None:
        """Find the checkpoint ``name`` in the newest lease that has it; None if none has.

        The checkpoint is not verified.
        """
        for lease in reversed(self.leases()):
            for parent in (lease.checkpoints, lease.latest):
                if (parent / name).is_dir():
                    return parent / name
        return None

    def _found(self) -> Iterator[LeaseDir]:
        if not self.path.is_dir():
            return
        for child in self.path.iterdir():
            number = lease_number(child.name)
            if number is not None and child.is_dir():
                yield LeaseDir(child, number)


def lease_number(name: str) -> int | None:
    """Parse a lease's number from its folder's name; None for other names."""
    match = _LEASE.fullmatch(name)
    return int(match.group(1)) if match else None


def stored_checkpoint_name(reference: str) -> str | None:
    """Convert a checkpoint's id to ``<run id>/<checkpoint name>``, or keep that form; else None.

    Such a name cannot point outside the folder of the runs.
    """
    match = _CHECKPOINT_ID.fullmatch(reference)
    if match:
        return f"{match.group(1)}/step-{match.group(2)}"
    return reference if _STORED_CHECKPOINT.fullmatch(reference) else None


def checkpoint_id(run_id: str, step: int) -> str:
    """Return the id of a checkpoint, unique over all runs."""
    return f"{run_id}-{step:08d}"


def stored_checkpoint(runs_dir: Path, reference: str) -> Path | None:
    """Find the folder of ``<run id>/<checkpoint name>``, or of a checkpoint's id.

    None if ``reference`` is neither, or the checkpoint does not exist.
    """
    stored = stored_checkpoint_name(reference)
    if stored is None:
        return None
    run_id, _, name = stored.partition("/")
    return RunDir(runs_dir / run_id).checkpoint(name)
