"""Events of a trainer: ``events.jsonl``, append-only, one JSON object per line.

A line is complete when it ends in a newline; a torn last line (of a process killed while writing)
is not read. Metrics are identified by (name, step), checkpoints by their name and evaluations by
their key, so that reading a part of the file twice changes nothing.

A resumed lease starts its file with the events in its checkpoint: the newest lease's file always
has the whole history of the run up to that lease's last step.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pmae.errors import EventError


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    time: float = Field(default_factory=time.time, description="Unix time in seconds.")


class StartEvent(_Event):
    """A trainer took the run."""

    type: Literal["start"] = "start"
    lease: int
    resumed_from: str | None = Field(default=None, description="Name of the checkpoint, if any.")
    resumed_step: int = 0
    environment: dict[str, Any] = Field(
        default_factory=dict, description="Versions, device and threads, which decide the bits."
    )


class StageEvent(_Event):
    """The run entered a stage."""

    type: Literal["stage"] = "stage"
    stage: Literal["data", "basis", "pretrain", "probe"]


class BasisEvent(_Event):
    """The basis of the run is known."""

    type: Literal["basis"] = "basis"
    digest: str = Field(description="Digest of its content, which names its folder in the store.")


class ProgressEvent(_Event):
    """Progress within the stage. For display only: not stored in checkpoints."""

    type: Literal["progress"] = "progress"
    stage: Literal["data", "basis", "pretrain", "probe"]
    done: int
    total: int
    epoch: int | None = None
    total_epochs: int | None = None
    loss: float | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = Field(default=None, description="Time left in this stage.")


class MetricsEvent(_Event):
    """Metrics at an optimiser step (the number of finished steps, from 1)."""

    type: Literal["metrics"] = "metrics"
    step: int
    epoch: float = Field(description="Finished epochs, with a fraction within an epoch.")
    values: dict[str, float]


class CheckpointEvent(_Event):
    """A checkpoint's manifest was written."""

    type: Literal["checkpoint"] = "checkpoint"
    name: str = Field(description="For example step-00000640.")
    kind: Literal["kept", "latest"] = Field(
        description="kept, or latest: it replaces the run's earlier latest."
    )
    lease: int
    step: int
    epoch: float
    files: dict[str, FileFacts] = Field(description="By file name, manifest.json not included.")
    metrics: dict[str, float] = Field(
        default_factory=dict, description="Metrics of the epoch, if the checkpoint ends one."
    )


class CheckpointRemovedEvent(_Event):
    """A kept checkpoint was removed by the spec's retention."""

    type: Literal["checkpoint_removed"] = "checkpoint_removed"
    name: str


class FileFacts(BaseModel):
    """Digest and size of a file, as in a manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int = Field(description="Bytes.")


class EvaluationEvent(_Event):
    """Result of one evaluation. ``key`` identifies it within the run."""

    type: Literal["evaluation"] = "evaluation"
    key: str = Field(description="For example linear/encoder, linear/raw_pixels, knn/encoder@100.")
    protocol: Literal["linear", "mlp", "knn", "finetune"]
    features: Literal["encoder", "untrained_encoder", "raw_pixels"]
    step: int
    epoch: float
    split: Literal["test"] = "test"
    top1: float = Field(
        description="Fraction of correctly classified images, 0 to 1; with several seeds, the mean."
    )
    details: dict[str, Any] = Field(
        default_factory=dict,
        description="Other fields of pmae.evaluate.results.EvaluationResult.",
    )


class WarningEvent(_Event):
    """A warning to the researcher; the run continues."""

    type: Literal["warning"] = "warning"
    message: str


class ErrorEvent(_Event):
    """The run failed. ``message`` is for the researcher; the traceback is in the log."""

    type: Literal["error"] = "error"
    code: str = Field(description="Stable, for programs: non_finite_loss, out_of_memory, ...")
    message: str


class EndEvent(_Event):
    """The run has succeeded: all stages of the spec are done."""

    type: Literal["end"] = "end"
    step: int


Event = Annotated[
    StartEvent
    | StageEvent
    | BasisEvent
    | ProgressEvent
    | MetricsEvent
    | CheckpointEvent
    | CheckpointRemovedEvent
    | EvaluationEvent
    | WarningEvent
    | ErrorEvent
    | EndEvent,
    Field(discriminator="type"),
]
CheckpointEvent.model_rebuild()
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(line: bytes | str) -> Event:
    """Parse one line.

    Raises:
        EventError: the line is not an event.
    """
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        text = line.decode(errors="replace") if isinstance(line, bytes) else line
        raise EventError(f"not an event: {text.strip()[:200]!r}") from error


def split_lines(data: bytes) -> tuple[list[bytes], int]:
    """Split ``data`` into complete lines.

    Returns:
        The non-empty lines without their newline, and the number of bytes of ``data`` that they
        take: a torn last line is not included.
    """
    end = data.rfind(b"\n") + 1
    return [line for line in data[:end].splitlines() if line], end


def read_events(path: Path) -> Iterator[Event]:
    """Read the events of a file whose process has ended, without a torn last line.

    Raises:
        EventError: a complete line is not an event.
    """
    lines, _ = split_lines(path.read_bytes())
    return (parse_event(line) for line in lines)


def intact_events(data: bytes) -> Iterator[Event]:
    """Parse the events of a file, or of a part of it, whose process may have been killed.

    Lines broken by a kill are left out: the run's next lease repeats those events.
    """
    for line in split_lines(data)[0]:
        with suppress(EventError):
            yield parse_event(line)


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Keep only the finite values, since JSON has no NaN."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _passing(event: Event) -> bool:
    """Return True for events that matter only in their lease: progress, rolling checkpoints."""
    return isinstance(event, ProgressEvent) or (
        isinstance(event, CheckpointEvent) and event.kind == "latest"
    )


class EventWriter:
    """Writer of an event file that only this process appends to; thread-safe.

    Each event is one ``write`` call on an unbuffered descriptor, so that a killed process tears at
    most its last line. :meth:`sync` flushes to the disk.
    """

    def __init__(self, path: Path) -> None:
        """Create ``path``, which must not exist: every lease writes its own file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o644)
        self._torn = False
        self._carried = bytearray()
        self._lock = threading.Lock()

    def write(self, event: Event) -> None:
        """Append one event.

        Raises:
            OSError: the disk is full or fails; the next event begins on a new line.
        """
        line = event.model_dump_json().encode() + b"\n"
        with self._lock:
            view = memoryview(b"\n" + line if self._torn else line)
            self._torn = True
            while view:
                view = view[os.write(self._fd, view) :]
            self._torn = False
            if not _passing(event):
                self._carried += line

    def write_all(self, events: Iterable[Event]) -> None:
        """Append several events."""
        for event in events:
            self.write(event)

    def carried(self) -> bytes:
        """Return the lines to store in a checkpoint: all events but the passing ones."""
        with self._lock:
            return bytes(self._carried)

    def sync(self) -> None:
        """Flush to the disk."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; writing again is an error."""
        os.close(self._fd)


def dump_json(value: object) -> str:
    """Serialise to canonical JSON (sorted keys, no NaN): equal values give equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
