"""Where a run's files lie. Every path in the project that names a part of a run is built here.

::

    RUN_DIR/
      spec.json                        the resolved spec
      lease-0001/                      one folder for each time a process took the run
        events.jsonl                   what happened, append-only (pmae.runs.events)
        train.log                      the trainer's standard output and error
        checkpoints/step-00000640/     kept checkpoints (pmae.runs.checkpoints)
        latest/step-00000712/          the newest state: goes when a newer checkpoint is there
      filmstrip/step-00000640.npz    what it made of some images by then (pmae.runs.frames)
      lease-0002/ ...

A lease's folder is written by that lease's trainer only, so a zombie of an older lease harms
nothing and a torn last line is never appended to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODEL_FILE = "model.safetensors"
"""Of a checkpoint: the weights."""
CONFIG_FILE = "config.json"
"""Of a checkpoint: the spec, and the digests of its data and its basis."""
MANIFEST_FILE = "manifest.json"
"""A checkpoint exists when it does; it names the files and their SHA-256."""
BASES_FOLDER = "bases"
"""Of fitted bases, one folder each: of the service, or in a folder of a downloaded checkpoint."""
PINNED_FILE = "pinned"
"""An empty file in a checkpoint's folder: it is not removed to make room."""
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
        """What the trainer printed."""
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
        """The folder of lease ``number`` (1 or more); it need not exist."""
        if number < 1:
            raise ValueError(f"lease numbers start at 1, got {number}")
        return LeaseDir(self.path / f"lease-{number:04d}", number)

    def leases(self) -> list[LeaseDir]:
        """The leases whose folders exist, oldest first."""
        return sorted(self._found(), key=lambda lease: lease.number)

    def checkpoint(self, name: str) -> Path | None:
        """The folder of the checkpoint ``name``, of the newest lease that has it; None: none has.

        It need not be a valid one.
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
    """The number of the lease whose folder has this name; None: it is no lease's."""
    match = _LEASE.fullmatch(name)
    return int(match.group(1)) if match else None


def stored_checkpoint_name(reference: str) -> str | None:
    """``<run id>/<checkpoint name>`` of that, or of a checkpoint's id; None: it is neither.

    Such a name cannot leave the folder of the runs.
    """
    match = _CHECKPOINT_ID.fullmatch(reference)
    if match:
        return f"{match.group(1)}/step-{match.group(2)}"
    return reference if _STORED_CHECKPOINT.fullmatch(reference) else None


def checkpoint_id(run_id: str, step: int) -> str:
    """The id of a checkpoint, which no other run's has."""
    return f"{run_id}-{step:08d}"


def stored_checkpoint(runs_dir: Path, reference: str) -> Path | None:
    """The folder of ``<run id>/<checkpoint name>``, or of a checkpoint's id.

    None: it is neither, or the checkpoint is not there.
    """
    stored = stored_checkpoint_name(reference)
    if stored is None:
        return None
    run_id, _, name = stored.partition("/")
    return RunDir(runs_dir / run_id).checkpoint(name)
