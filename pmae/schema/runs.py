"""What goes over the wire of runs beside :mod:`pmae.schema`: changes, previews, many at once."""

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
"""Of the messages of ``GET /events``."""
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
    """What of a run can be changed: fields that are left out stay as they are.

    ``null`` takes a field back to what a run has that says nothing of it. The spec never changes.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"name": "ratio 0.2, third try", "pinned": True}]},
    )

    name: _Name = Field(
        default="",
        description="For people; need not be unique. A run always has one: not null.",
        json_schema_extra=_without_default,
    )
    tags: tuple[_Tag, ...] | None = Field(
        default=None, max_length=32, description="All of its tags."
    )
    notes: _Notes | None = Field(default=None, description="For people.")
    pinned: bool | None = Field(default=None, description="A pinned run cannot be deleted.")
    priority: int | None = Field(
        default=None, ge=-1000, le=1000, description="Of a queued run: higher ones start first."
    )

    @property
    def values(self) -> dict[str, Any]:
        """What each field that was given is to become."""
        given = self.model_dump(mode="json", include=self.model_fields_set)
        return {k: _BLANK[k] if value is None else value for k, value in given.items()}


class ParameterCounts(_Wire):
    """Trained weights; positions are fixed and not counted."""

    encoder: int
    decoder: int


class MemoryEstimate(_Wire):
    """Bytes on each device while training, without the images and the libraries' own.

    Formulas: docs/api.md.
    """

    weights: int
    gradients: int
    optimizer: int = Field(description="AdamW's two moments.")
    activations: int = Field(description="Of the images that go through the model at once.")
    basis: int = Field(description="4 * D * k of a PMAE run: D values an image, k components.")
    total: int


class MeasuredSpeed(_Wire):
    """How fast the newest succeeded run was that trained the same model the same way."""

    run_id: str
    epochs_per_minute: float
    pretraining_seconds: float = Field(description="What this run's epochs take at that speed.")


class Estimate(_Wire):
    """What a run would cost."""

    channels: int = Field(description="Of the images; 3 where only the files would tell.")
    parameters: ParameterCounts
    memory_bytes: MemoryEstimate
    checkpoint_bytes: int = Field(description="Weights and training state of one checkpoint.")
    train_images: int | None = Field(
        description="Images of the train split; null where only the files would tell."
    )
    steps: int | None = Field(description="Optimiser steps; null as above.")
    images_seen: int | None = Field(description="Images of all steps; null as above.")
    measured: MeasuredSpeed | None = Field(description="null: no like run has succeeded here.")


class SubmitPreview(_Wire):
    """What would be queued. Nothing was."""

    spec: RunSpec = Field(description="Resolved: every default written out.")
    estimate: Estimate | None = Field(description="null: it evaluates a checkpoint.")
    warnings: list[str] = Field(
        default_factory=list,
        description="Why it might not run: a data set that is not where the API looks, no worker "
        "that could take it.",
    )


class MetricsOfRuns(_Wire):
    """Metric series of several runs, in the order asked for."""

    runs: list[Metrics]


class ServiceEvent(HistoryEntry):
    """A thing that happened to some run."""

    run_id: str
    run: RunSummary | None = Field(description="As it is now; null: it was deleted (`delete`).")
