"""Further models of runs: changes, submission previews, metrics and events of several runs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pmae.schema import HistoryEntry, Metrics, RunSummary
from pmae.spec import RunSpec
from pmae.spec.messages import NO_NUL

EVENT_TYPES = (
    "state",
    "cancel",
    "change",
    "delete",
    "start",
    "stage",
    "checkpoint",
    "evaluation",
    "warning",
    "error",
    "progress",
)
"""Event types of the messages of ``GET /events``."""
_Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=120, strip_whitespace=True, pattern=NO_NUL),
]
_Tag = Annotated[
    str, StringConstraints(min_length=1, max_length=64, strip_whitespace=True, pattern=NO_NUL)
]
_Notes = Annotated[str, StringConstraints(max_length=10_000, pattern=NO_NUL)]


_BLANK: dict[str, Any] = {"tags": [], "notes": "", "pinned": False, "priority": 0}


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class RunChange(_Wire):
    """Change of a run: fields that are left out stay as they are.

    ``null`` resets a field to its default. The spec never changes.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"name": "ratio 0.2, third try", "pinned": True}]},
    )

    name: _Name = Field(
        default="",
        description="Name of the run; need not be unique. Not null, since every run has a name.",
        json_schema_extra=_without_default,
    )
    tags: tuple[_Tag, ...] | None = Field(
        default=None, max_length=32, description="All tags of the run."
    )
    notes: _Notes | None = Field(default=None, description="Free text.")
    pinned: bool | None = Field(default=None, description="A pinned run cannot be deleted.")
    priority: int | None = Field(
        default=None,
        ge=-1000,
        le=1000,
        description="Priority in the queue: higher ones start first.",
    )

    @property
    def values(self) -> dict[str, Any]:
        """New values of the fields that were set."""
        given = self.model_dump(mode="json", include=self.model_fields_set)
        return {k: _BLANK[k] if value is None else value for k, value in given.items()}


class ParameterCounts(_Wire):
    """Numbers of trained weights; position embeddings are fixed and not counted."""

    encoder: int
    decoder: int


class MemoryEstimate(_Wire):
    """Memory per device in training, in bytes, without the images and the libraries.

    Formulas: docs/api.md.
    """

    weights: int
    gradients: int
    optimizer: int = Field(description="AdamW's two moments.")
    activations: int = Field(description="Activations of one micro-batch.")
    basis: int = Field(description="4 * D * k for PMAE: D values per image, k components.")
    total: int


class MeasuredSpeed(_Wire):
    """Speed of the newest succeeded run with the same model and training settings."""

    run_id: str
    epochs_per_minute: float
    pretraining_seconds: float = Field(description="Duration of this run's epochs at that speed.")


class Estimate(_Wire):
    """Estimated cost of a run."""

    channels: int = Field(description="Channels of the images; 3 if known from the files only.")
    parameters: ParameterCounts
    memory_bytes: MemoryEstimate
    checkpoint_bytes: int = Field(description="Weights and training state of one checkpoint.")
    train_images: int | None = Field(
        description="Images of the train split; null if known from the files only."
    )
    steps: int | None = Field(description="Optimiser steps; null as above.")
    images_seen: int | None = Field(description="Images of all steps; null as above.")
    measured: MeasuredSpeed | None = Field(
        description="null: no comparable run has succeeded here."
    )


class SubmitPreview(_Wire):
    """Preview of a submission; nothing was queued."""

    spec: RunSpec = Field(description="Resolved: every default written out.")
    estimate: Estimate | None = Field(description="null if the run evaluates a checkpoint.")
    warnings: list[str] = Field(
        default_factory=list,
        description="Reasons why it might not run: a data set that the API does not find, no "
        "worker that could take it.",
    )


class MetricsOfRuns(_Wire):
    """Metric series of several runs, in the order asked for."""

    runs: list[Metrics]


class ServiceEvent(HistoryEntry):
    """Event of any run: an entry of its history, and the run."""

    run_id: str
    run: RunSummary | None = Field(
        description="The run as it is now; null: it was deleted (`delete`)."
    )
