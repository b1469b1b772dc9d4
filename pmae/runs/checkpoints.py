"""Checkpoints on disk. A checkpoint exists when its manifest does.

::

    step-00000640/
      model.safetensors    model.encoder.*, model.decoder.*, probe.*, pixel_mean, pixel_std
      config.json          the resolved spec, the data set, the basis's digest
      trainer.pt           optimiser state and counters (torch.load with weights_only=True)
      events.jsonl         the run's events up to this step
      manifest.json        sha256 and size of each, written last

The whole folder is written under a temporary name, flushed and renamed, so that a killed process
leaves no half of one. Reading verifies sizes and digests.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save
from torch import Tensor

from pmae.errors import CheckpointError
from pmae.runs.events import CheckpointEvent, Event, FileFacts, parse_event, split_lines
from pmae.runs.layout import CONFIG_FILE, MANIFEST_FILE, MODEL_FILE, LeaseDir, RunDir
from pmae.runtime.files import publish_folder
from pmae.spec import ExperimentSpec

TRAINER_FILE = "trainer.pt"
EVENTS_FILE = "events.jsonl"
_MODEL = "model."


class Manifest(BaseModel):
    """What a checkpoint consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    kind: Literal["kept", "latest"]
    step: int
    epoch: float
    lease: int
    created_at: float
    files: dict[str, FileFacts]
    metrics: dict[str, float] = Field(default_factory=dict)

    def event(self) -> CheckpointEvent:
        """What the trainer tells of it."""
        return CheckpointEvent(
            time=self.created_at,
            name=self.name,
            kind=self.kind,
            lease=self.lease,
            step=self.step,
            epoch=self.epoch,
            files=self.files,
            metrics=self.metrics,
        )


class CheckpointConfig(BaseModel):
    """What is needed, beside the weights, to use a checkpoint.

    The spec's ``precision`` is the one that was chosen. ``init_digest`` is the SHA-256 of the
    weights' file that ``init_from`` named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    spec: ExperimentSpec
    channels: int
    class_names: tuple[str, ...]
    data_digest: str
    basis_digest: str | None
    init_digest: str | None = None


@dataclass(frozen=True)
class TrainingState:
    """Everything that a resumed process needs to go on as if nothing had happened."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    counters: dict[str, float]


def checkpoint_name(step: int) -> str:
    """``step-00000640``."""
    return f"step-{step:08d}"


def write_checkpoint(
    lease: LeaseDir,
    *,
    kind: Literal["kept", "latest"],
    step: int,
    epoch: float,
    state: TrainingState,
    config: CheckpointConfig,
    events: bytes,
    metrics: dict[str, float],
) -> Manifest:
    """Write a checkpoint, which then replaces the run's older rolling one.

    Args:
        lease: that writes.
        kind: kept, or latest: the rolling one.
        step: how many steps were done.
        epoch: how many epochs.
        state: after them.
        config: what is needed to use the weights.
        events: the lines of the run's events up to here.
        metrics: the epoch's figures, if an epoch ends here.

    Raises:
        OSError: the disk is full or refuses; nothing of the checkpoint is left, older ones stay.
    """
    folder = (lease.checkpoints if kind == "kept" else lease.latest) / checkpoint_name(step)
    trainer = io.BytesIO()
    torch.save({"optimizer": state.optimizer, "counters": state.counters}, trainer)
    content = {
        MODEL_FILE: pack_weights(state.weights),
        CONFIG_FILE: config.model_dump_json(indent=1).encode(),
        TRAINER_FILE: trainer.getvalue(),
        EVENTS_FILE: events,
    }
    manifest = Manifest(
        name=folder.name,
        kind=kind,
        step=step,
        epoch=epoch,
        lease=lease.number,
        created_at=time.time(),
        files={name: _facts(data) for name, data in content.items()},
        metrics=metrics,
    )
    content[MANIFEST_FILE] = manifest.model_dump_json(indent=1).encode()
    publish_folder(folder, content)
    _remove_older_latest(lease, folder)
    return manifest


def pack_weights(weights: Mapping[str, Tensor]) -> bytes:
    """The content of ``model.safetensors``; equal weights on the CPU give equal bytes."""
    return save({name: tensor.contiguous() for name, tensor in weights.items()})


def _facts(data: bytes) -> FileFacts:
    return FileFacts(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def _remove_older_latest(lease: LeaseDir, newest: Path) -> None:
    """Not those of newer leases: this process may be one whose lease has ended."""
    for older in RunDir(lease.path.parent).leases():
        if older.number <= lease.number and older.latest.is_dir():
            for folder in older.latest.iterdir():
                if folder != newest and folder.name <= newest.name:
                    shutil.rmtree(folder, ignore_errors=True)


def parse_manifest(folder: Path) -> Manifest:
    """Read a checkpoint's manifest; its files are not looked at.

    Raises:
        CheckpointError: it has none, or a broken one.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise CheckpointError(f"{folder} is not a checkpoint: {error}") from error
    except ValidationError as error:
        raise CheckpointError(f"{folder}: the manifest is broken: {error}") from error


def read_manifest(folder: Path, only: Collection[str] | None = None) -> Manifest:
    """Read and verify a checkpoint.

    Args:
        folder: of the checkpoint.
        only: the files to verify; default: all.

    Raises:
        CheckpointError: it has no manifest, or a file that is not what the manifest says.
    """
    manifest = parse_manifest(folder)
    for name, facts in manifest.files.items():
        if only is not None and name not in only:
            continue
        try:
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{folder}: {name} cannot be read: {error}") from error
        if digest != facts.sha256:
            raise CheckpointError(
                f"{folder}: {name} is not what the manifest says (sha256 differs)"
            )
    return manifest


def newest_valid(run: RunDir) -> tuple[Path | None, list[str]]:
    """The checkpoint to resume from, and why newer ones were skipped.

    Returns:
        The folder of the valid checkpoint with the most steps (None if there is none), and a
        sentence for each broken one that was passed over.
    """
    folders = [
        folder
        for lease in run.leases()
        for parent in (lease.checkpoints, lease.latest)
        if parent.is_dir()
        for folder in parent.iterdir()
        if not folder.name.startswith(".")
    ]
    skipped: list[str] = []
    for folder in sorted(
        folders, key=lambda path: (path.name, path.parent.parent.name), reverse=True
    ):
        try:
            read_manifest(folder)
        except CheckpointError as error:
            skipped.append(str(error))
        else:
            return folder, skipped
    return None, skipped


def read_config(folder: Path) -> CheckpointConfig:
    """A checkpoint's spec, data set and basis.

    Raises:
        CheckpointError: the file is absent or broken.
    """
    try:
        return CheckpointConfig.model_validate_json((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} cannot be read: {error}") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors, on the CPU."""
    try:
        return load_file(folder / MODEL_FILE)
    except OSError as error:
        raise CheckpointError(f"{folder / MODEL_FILE} cannot be read: {error}") from error


def model_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of encoder and decoder, by their names in the model."""
    return {k.removeprefix(_MODEL): v for k, v in weights.items() if k.startswith(_MODEL)}


def read_state(folder: Path) -> TrainingState:
    """Weights, optimiser state and counters, on the CPU."""
    trainer: Mapping[str, Any] = torch.load(
        folder / TRAINER_FILE, map_location="cpu", weights_only=True
    )
    return TrainingState(read_weights(folder), trainer["optimizer"], trainer["counters"])


def read_carried_events(folder: Path) -> list[Event]:
    """The run's events up to the checkpoint, then the checkpoint itself."""
    lines, _ = split_lines((folder / EVENTS_FILE).read_bytes())
    return [*(parse_event(line) for line in lines), parse_manifest(folder).event()]
