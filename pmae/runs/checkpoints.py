"""Checkpoints on disk. A checkpoint exists when its manifest does.

::

    step-00000640/
      model.safetensors    model.encoder.*, model.decoder.*, probe.*, pixel_mean, pixel_std
      config.json          the resolved spec, the data set, the basis's digest
      trainer.pt           optimiser state and counters (torch.load with weights_only=True)
      events.jsonl         the run's events up to this step
      manifest.json        sha256 and size of each, written last

The whole folder is written under a temporary name, flushed and renamed, so that a killed process
leaves no partial checkpoint. Reading verifies the digests.
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
    """Manifest of a checkpoint: its step, files and metrics."""

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
        """Return the event that reports the checkpoint."""
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
    """Configuration needed, beside the weights, to use a checkpoint.

    The spec's ``precision`` is resolved. ``init_digest`` is the SHA-256 of the weights' file that
    ``init_from`` named.
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
    """State from which a resumed process continues exactly."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    counters: dict[str, float]


def checkpoint_name(step: int) -> str:
    """Return the folder name of a step's checkpoint: ``step-00000640``."""
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
    """Write a checkpoint, then remove the run's older rolling one.

    Args:
        lease: folder of the lease that writes.
        kind: ``kept``, or ``latest`` for the rolling checkpoint.
        step: number of finished steps.
        epoch: number of finished epochs.
        state: weights, optimiser state and counters after them.
        config: configuration needed to use the weights.
        events: lines of the run's events up to this step.
        metrics: the epoch's metrics, if the step ends an epoch.

    Raises:
        OSError: the disk is full or fails; no partial checkpoint is left, older ones stay.
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
    """Serialise ``model.safetensors``; equal weights on the CPU give equal bytes."""
    return save({name: tensor.contiguous() for name, tensor in weights.items()})


def _facts(data: bytes) -> FileFacts:
    return FileFacts(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def _remove_older_latest(lease: LeaseDir, newest: Path) -> None:
    """Remove older rolling checkpoints, except those of newer leases.

    This process's own lease may have ended.
    """
    for older in RunDir(lease.path.parent).leases():
        if older.number <= lease.number and older.latest.is_dir():
            for folder in older.latest.iterdir():
                if folder != newest and folder.name <= newest.name:
                    shutil.rmtree(folder, ignore_errors=True)


def parse_manifest(folder: Path) -> Manifest:
    """Read a checkpoint's manifest without verifying the files.

    Raises:
        CheckpointError: the manifest is missing or malformed.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise CheckpointError(f"{folder} is not a checkpoint: {error}") from error
    except ValidationError as error:
        raise CheckpointError(f"{folder}: {MANIFEST_FILE} is malformed: {error}") from error


def read_manifest(folder: Path, only: Collection[str] | None = None) -> Manifest:
    """Read a checkpoint's manifest and verify its files.

    Args:
        folder: folder of the checkpoint.
        only: names of the files to verify; default: all.

    Raises:
        CheckpointError: the manifest is missing or malformed, or a file does not match it.
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
                f"{folder}: {name} has the SHA-256 {digest}; expected {facts.sha256}"
            )
    return manifest


def newest_valid(run: RunDir) -> tuple[Path | None, list[str]]:
    """Find the checkpoint to resume from.

    Returns:
        The folder of the valid checkpoint with the most steps (None if there is none), and an
        error message for each newer one, which is not valid.
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
    """Read a checkpoint's configuration: its spec, data set and basis.

    Raises:
        CheckpointError: the file is missing or malformed.
    """
    try:
        return CheckpointConfig.model_validate_json((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} cannot be read: {error}") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read a checkpoint's tensors, on the CPU.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        return load_file(folder / MODEL_FILE)
    except OSError as error:
        raise CheckpointError(f"{folder / MODEL_FILE} cannot be read: {error}") from error


def model_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the weights of encoder and decoder, by their names in the model."""
    return {k.removeprefix(_MODEL): v for k, v in weights.items() if k.startswith(_MODEL)}


def read_state(folder: Path) -> TrainingState:
    """Read weights, optimiser state and counters, on the CPU."""
    trainer: Mapping[str, Any] = torch.load(
        folder / TRAINER_FILE, map_location="cpu", weights_only=True
    )
    return TrainingState(read_weights(folder), trainer["optimizer"], trainer["counters"])


def read_carried_events(folder: Path) -> list[Event]:
    """Read the run's events up to the checkpoint, followed by the checkpoint's own event."""
    lines, _ = split_lines((folder / EVENTS_FILE).read_bytes())
    return [*(parse_event(line) for line in lines), parse_manifest(folder).event()]
