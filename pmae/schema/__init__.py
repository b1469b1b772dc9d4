"""What goes over the wire: the REST API's answers, shared by the API and its typed client.

Times are ISO 8601 in UTC. ``state`` is one of queued, running, succeeded, failed, cancelled.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pmae.runs.events import FileFacts
from pmae.schema.reconstructions import FilmFrame as FilmFrame
from pmae.schema.reconstructions import Filmstrip as Filmstrip
from pmae.schema.reconstructions import ImageChoice as ImageChoice
from pmae.schema.reconstructions import ReconstructedImage as ReconstructedImage
from pmae.schema.reconstructions import Reconstruction as Reconstruction
from pmae.schema.reconstructions import ReconstructionRequest as ReconstructionRequest
from pmae.schema.reconstructions import Residuals as Residuals
from pmae.schema.reconstructions import UploadedImages as UploadedImages
from pmae.spec import ExperimentSpec, RunSpec

RunKind = Literal["pretrain", "evaluate"]
RUN_KINDS: tuple[RunKind, ...] = ("pretrain", "evaluate")
RunState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
RUN_STATES: tuple[RunState, ...] = ("queued", "running", "succeeded", "failed", "cancelled")
TERMINAL_STATES: frozenset[RunState] = frozenset({"succeeded", "failed", "cancelled"})

_NOTEWORTHY = 0.01
"""A balanced accuracy that is another figure than the top-1 differs from it by so much."""


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class Progress(_Wire):
    """How far a running run is."""

    stage: str | None = Field(default=None, description="data, basis, pretrain or probe.")
    done: int | None = None
    total: int | None = None
    epoch: int | None = None
    total_epochs: int | None = None
    loss: float | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = Field(default=None, description="Time left in the stage.")


class Evaluation(_Wire):
    """One evaluation of a run."""

    key: str = Field(examples=["linear/encoder", "knn/encoder@100"])
    protocol: str
    features: str = Field(description="encoder, untrained_encoder or raw_pixels.")
    step: int
    epoch: float
    split: str
    top1: float = Field(
        description="Share of images whose class was predicted, 0 to 1; the mean over the seeds."
    )
    details: dict[str, Any] = Field(
        default_factory=dict,
        description="What else was found, and how: docs/evaluation.md. Among it top1_std, top5, "
        "macro_f1, balanced_accuracy, val_top1, per_class, confusion_matrix, by_layer, chosen and "
        "spec.",
    )

    @property
    def telling_balanced_accuracy(self) -> float | None:
        """The mean accuracy of the classes, where it is another figure than the top-1."""
        balanced = self.details.get("balanced_accuracy")
        is_other = balanced is not None and abs(balanced - self.top1) >= _NOTEWORTHY
        return balanced if is_other else None


class RunSummary(_Wire):
    """A run as the list shows it."""

    id: str
    kind: RunKind = "pretrain"
    parent_id: str | None = Field(
        default=None, description="Of an evaluation: the run whose checkpoint it measures."
    )
    number: int = Field(description="1 for the first run submitted to this service, and so on.")
    name: str
    state: RunState
    method: str
    dataset: str
    tags: list[str]
    pinned: bool = Field(default=False, description="It cannot be deleted.")
    owner: str | None = Field(default=None, description="The API key's name; null: keys are off.")
    priority: int
    attempt: int = Field(description="How often it was started since it last got further.")
    reason: str | None = Field(default=None, description="Why it is in this state, in a sentence.")
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress
    last_metrics: dict[str, float] = Field(description="The newest value of each metric.")
    top1: float | None = Field(default=None, description="Linear probe of the trained encoder.")


class RunError(_Wire):
    """Why a run failed."""

    code: str = Field(description="Stable, for programs: out_of_memory, disk_full, ...")
    message: str
    log_tail: str = Field(description="The last lines that its trainer printed.")


class Run(RunSummary):
    """A run in full."""

    spec: RunSpec = Field(description="Resolved: every default written out.")
    notes: str = Field(default="", description="For people; `spec.notes` is what it began as.")
    preset: str | None = None
    worker: str | None = None
    lease_number: int = Field(description="How often a worker started it.")
    max_attempts: int
    devices: int = Field(description="How many GPUs a worker needs to take it.")
    rerun_of: str | None = Field(default=None, description="Id of the run that it repeats.")
    error: RunError | None = Field(default=None, description="Of a failed run.")
    basis_digest: str | None = None
    evaluations: list[Evaluation]
    environment: dict[str, Any] = Field(default_factory=dict)


class RunPage(_Wire):
    """A page of runs, newest first."""

    items: list[RunSummary]
    next_cursor: str | None = Field(
        default=None, description="Pass as `cursor` for the next page; null on the last."
    )


MOST_IN_A_PAGE = 500
"""Runs, evaluations or checkpoints in one answer."""
HISTORY_PAGE = 1_000
"""Entries of a run's history in one answer, unless another limit is asked for."""


class HistoryEntry(_Wire):
    """A thing that happened to a run, in order of ``id``."""

    id: int
    at: datetime
    type: str = Field(
        description="state, cancel, change, start, stage, checkpoint, evaluation, warning or error."
    )
    actor: str = Field(description="Who: an API key's name, api, reconciler, or a worker's name.")
    message: str
    data: dict[str, Any] = Field(default_factory=dict)


class History(_Wire):
    """What happened to a run."""

    items: list[HistoryEntry]


class MetricSeries(_Wire):
    """One metric of one run: parallel arrays."""

    name: str
    step: list[int]
    epoch: list[float]
    time: list[float] = Field(description="Unix time in seconds.")
    value: list[float]
    total: int = Field(description="How many points there are; more than returned when decimated.")


class Metrics(_Wire):
    """Metric series of one run."""

    run_id: str
    series: list[MetricSeries]


class LogChunk(_Wire):
    """A piece of a run's log."""

    text: str
    offset: int = Field(
        description="Where the piece starts, in bytes from the first attempt's start."
    )
    next_offset: int = Field(description="Pass as `offset` to go on.")
    size: int = Field(description="Bytes there are now.")


CheckpointKind = Literal["kept", "latest"]


class Checkpoint(_Wire):
    """A checkpoint of a run."""

    id: str
    run_id: str
    name: str
    kind: CheckpointKind
    step: int
    epoch: float
    created_at: datetime
    files: dict[str, FileFacts]
    metrics: dict[str, float] = Field(description="The epoch's figures, if it ends an epoch.")
    pinned: bool = Field(description="It is not removed to make room.")


class CheckpointChange(_Wire):
    """What of a checkpoint can be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pinned: bool


class CheckpointPage(_Wire):
    """A page of a run's checkpoints, newest first."""

    items: list[Checkpoint]
    next_cursor: str | None = Field(
        default=None, description="Pass as `cursor` for the next page; null on the last."
    )


class Spectrum(_Wire):
    """The basis of a run: how the variance spreads over its components."""

    basis_digest: str
    kind: str
    channels: int
    resolution: int
    num_components: int
    explained_variance_ratio: list[float] = Field(
        description="In falling order; shares of the total variance, so they sum to 1 only if no "
        "component was left out."
    )


class PresetParameter(_Wire):
    """A parameter of a family of presets."""

    name: str
    meaning: str
    valid: str = Field(description="Its values, or what one looks like.")
    default: str


class PresetView(_Wire):
    """A named spec."""

    name: str = Field(description="Of a family's: with its parameters, `paper?dataset=cifar10`.")
    summary: str
    command: str = Field(default="", description="Trains it in a terminal, without a service.")
    cost: str
    expect: str
    spec: ExperimentSpec
    parameters: list[PresetParameter] = Field(
        default=[],
        description="Of a family: what can be said after its name. `spec`, `cost` and `expect` are "
        "of the values that the name gives, and of the defaults.",
    )


class DatasetView(_Wire):
    """A data set that a spec can name, or something that was meant as one."""

    name: str
    title: str
    resolution: int
    patch_size: int
    channels: int | None
    num_classes: int | None
    available: bool = Field(
        description="Whether its files are where the service looks, for it to read."
    )
    message: str = Field(description="Where it was found, or why it cannot be used and what to do.")


class WorkerView(_Wire):
    """A worker that was heard of lately: a slot that runs one run at a time."""

    name: str
    host: str
    started_at: datetime
    last_seen_at: datetime
    kinds: list[str] = Field(description="The kinds of runs that it takes.")
    devices: int = Field(description="How many GPUs it has; 1 without any.")
    draining: bool = Field(description="It takes nothing and gives back what it runs.")
    run_id: str | None = None


class QueuedRun(_Wire):
    """A run that waits."""

    position: int = Field(description="1 starts first.")
    run_id: str
    name: str
    kind: str
    devices: int
    priority: int
    queued_at: datetime
    waits: str = Field(description="Why it has not begun.")


class Queue(_Wire):
    """What waits, in the order in which it starts."""

    total: int
    items: list[QueuedRun] = Field(description="The first 500.")


class Problem(_Wire):
    """An error (RFC 9457, application/problem+json)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="Stable, for programs.")
    detail: str
    errors: list[ProblemField] = Field(default_factory=list)


class ProblemField(_Wire):
    """One bad field."""

    pointer: str = Field(description="JSON pointer into the body, or the parameter's name.")
    message: str = Field(description="What was wrong and what would be valid.")


class Readiness(_Wire):
    """Whether the service can do its work, and what of it cannot."""

    ready: bool
    checks: dict[str, str] = Field(
        description="`ok`, or what is wrong: database, broker, storage. Empty for strangers."
    )


Problem.model_rebuild()
