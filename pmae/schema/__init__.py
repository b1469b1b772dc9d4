"""Models of the REST API's requests and answers, shared by the API and its client.

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
"""Minimum difference between balanced accuracy and top-1 to show both."""


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class Progress(_Wire):
    """Progress of a running run within its stage."""

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
        description="Fraction of correctly classified images, 0 to 1; mean over the seeds."
    )
    details: dict[str, Any] = Field(
        default_factory=dict,
        description="Further results and settings (docs/evaluation.md): top1_std, top5, macro_f1, "
        "balanced_accuracy, val_top1, per_class, confusion_matrix, by_layer, chosen, spec and "
        "others.",
    )

    @property
    def telling_balanced_accuracy(self) -> float | None:
        """Balanced accuracy (mean over the classes) if it differs from the top-1, else None."""
        balanced = self.details.get("balanced_accuracy")
        is_other = balanced is not None and abs(balanced - self.top1) >= _NOTEWORTHY
        return balanced if is_other else None


class RunSummary(_Wire):
    """Run, as in lists."""

    id: str
    kind: RunKind = "pretrain"
    parent_id: str | None = Field(
        default=None, description="For an evaluation: the run whose checkpoint it evaluates."
    )
    number: int = Field(description="Serial number: 1 for the first run submitted to the service.")
    name: str
    state: RunState
    method: str
    dataset: str
    tags: list[str]
    pinned: bool = Field(default=False, description="A pinned run cannot be deleted.")
    owner: str | None = Field(default=None, description="Name of the API key; null: keys are off.")
    priority: int
    attempt: int = Field(description="Number of starts since its last progress.")
    reason: str | None = Field(default=None, description="Reason for the state, as a sentence.")
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress
    last_metrics: dict[str, float] = Field(description="The newest value of each metric.")
    top1: float | None = Field(default=None, description="Linear probe of the trained encoder.")


class RunError(_Wire):
    """Error of a failed run."""

    code: str = Field(description="Stable, for programs: out_of_memory, disk_full, ...")
    message: str
    log_tail: str = Field(description="The last lines that its trainer printed.")


class Run(RunSummary):
    """Run with all its fields."""

    spec: RunSpec = Field(description="Resolved: every default written out.")
    notes: str = Field(default="", description="Free text; `spec.notes` is its first version.")
    preset: str | None = None
    worker: str | None = None
    lease_number: int = Field(description="Number of times that a worker started it.")
    max_attempts: int
    devices: int = Field(description="Number of GPUs that a worker needs for it.")
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
    """Entry of a run's history, ordered by ``id``."""

    id: int
    at: datetime
    type: str = Field(
        description="state, cancel, change, start, stage, checkpoint, evaluation, warning or error."
    )
    actor: str = Field(description="Name of an API key or of a worker, or api, or reconciler.")
    message: str
    data: dict[str, Any] = Field(default_factory=dict)


class History(_Wire):
    """History of a run."""

    items: list[HistoryEntry]


class MetricSeries(_Wire):
    """One metric of one run: parallel arrays."""

    name: str
    step: list[int]
    epoch: list[float]
    time: list[float] = Field(description="Unix time in seconds.")
    value: list[float]
    total: int = Field(description="Number of stored points; more than returned if downsampled.")


class Metrics(_Wire):
    """Metric series of one run."""

    run_id: str
    series: list[MetricSeries]


class LogChunk(_Wire):
    """Chunk of a run's log."""

    text: str
    offset: int = Field(
        description="Start of the chunk, in bytes from the start of the first attempt's log."
    )
    next_offset: int = Field(description="Pass as `offset` for the next chunk.")
    size: int = Field(description="Size of the log now, in bytes.")


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
    metrics: dict[str, float] = Field(description="Metrics of the epoch, if it ends one.")
    pinned: bool = Field(description="Retention does not remove a pinned checkpoint.")


class CheckpointChange(_Wire):
    """Change of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pinned: bool


class CheckpointPage(_Wire):
    """A page of a run's checkpoints, newest first."""

    items: list[Checkpoint]
    next_cursor: str | None = Field(
        default=None, description="Pass as `cursor` for the next page; null on the last."
    )


class Spectrum(_Wire):
    """Spectrum of a run's basis: the variance explained by each component."""

    basis_digest: str
    kind: str
    channels: int
    resolution: int
    num_components: int
    explained_variance_ratio: list[float] = Field(
        description="Fraction of the total variance per component, in descending order; they sum "
        "to 1 unless components were left out."
    )


class PresetParameter(_Wire):
    """Parameter of a preset family."""

    name: str
    meaning: str
    valid: str = Field(description="Valid values, or their form.")
    default: str


class PresetView(_Wire):
    """Preset: a named spec."""

    name: str = Field(description="In a family with its parameters, as `paper?dataset=cifar10`.")
    summary: str
    command: str = Field(
        default="", description="Command to train it in a terminal, without a service."
    )
    cost: str
    expect: str
    spec: ExperimentSpec
    parameters: list[PresetParameter] = Field(
        default=[],
        description="Parameters of a family. `spec`, `cost` and `expect` hold for the values in "
        "the name, and for the defaults of the others.",
    )


class DatasetView(_Wire):
    """Data set that a spec can name, or a folder or file that is no usable data set."""

    name: str
    title: str
    resolution: int
    patch_size: int
    channels: int | None
    num_classes: int | None
    available: bool = Field(description="True if the service finds its files and can read them.")
    message: str = Field(description="Path of its files, or why it is not usable and the remedy.")


class WorkerView(_Wire):
    """Worker that is up: a slot that runs one run at a time."""

    name: str
    host: str
    started_at: datetime
    last_seen_at: datetime
    kinds: list[str] = Field(description="Kinds of runs that it takes.")
    devices: int = Field(description="Number of its GPUs; 1 without any.")
    draining: bool = Field(description="It takes no runs, and returns its run to the queue.")
    run_id: str | None = None


class QueuedRun(_Wire):
    """Queued run."""

    position: int = Field(description="Position in the queue, from 1.")
    run_id: str
    name: str
    kind: str
    devices: int
    priority: int
    queued_at: datetime
    waits: str = Field(description="Reason why it has not started.")


class Queue(_Wire):
    """Queued runs, in starting order."""

    total: int
    items: list[QueuedRun] = Field(description="The first 500 queued runs.")


class Problem(_Wire):
    """An error (RFC 9457, application/problem+json)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="Stable, for programs.")
    detail: str
    errors: list[ProblemField] = Field(default_factory=list)


class ProblemField(_Wire):
    """Error of one field."""

    pointer: str = Field(description="JSON pointer into the body, or the parameter's name.")
    message: str = Field(description="The error, and the valid values.")


class Readiness(_Wire):
    """Readiness of the service, by check."""

    ready: bool
    checks: dict[str, str] = Field(
        description="`ok` or an error, for each of database, broker and storage. Empty for callers "
        "without a key."
    )


Problem.model_rebuild()
