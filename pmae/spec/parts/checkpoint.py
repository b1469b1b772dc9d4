"""Spec of the checkpoints: when they are written, and which are kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from pmae.errors import SpecError
from pmae.metrics import BEST_METRICS, SPECTRUM_METRICS, unknown_metric
from pmae.spec.base import PositiveInt, SpecModel
from pmae.spec.parts.monitor import MonitorSpec


def _best_metric(name: str) -> str:
    if name not in BEST_METRICS:
        reason = unknown_metric(name, BEST_METRICS)
        raise PydanticCustomError("unknown_metric", "{reason}", {"reason": reason})
    return name


class CheckpointSpec(SpecModel):
    """Checkpoints: when they are written, and which are kept."""

    every_epochs: PositiveInt = Field(
        default=100, description="Epochs between two checkpoints; the last epoch has one too."
    )
    milestones: tuple[PositiveInt, ...] = Field(
        default=(),
        max_length=1000,
        description="Epochs with a checkpoint that is always kept.",
    )
    keep_last: PositiveInt | None = Field(
        default=None,
        description="Keep only this many of the newest checkpoints, the best one (`keep_best`), "
        "milestones, and pinned ones; default: keep all.",
    )
    keep_best: Annotated[str, AfterValidator(_best_metric)] | None = Field(
        default=None,
        json_schema_extra={"enum": [*BEST_METRICS, None]},
        description="Also keep the checkpoint with the best value of this metric: the lowest loss, "
        "the highest accuracy. Data sets with several binary labels an image have `*_accuracy` "
        "instead of `*_top1`.",
    )
    latest_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Seconds between two writes of the rolling checkpoint, from which a killed run "
        "resumes and which the dashboard shows; at least one second for each 16 MiB of it.",
    )


def check_best(checkpoint: CheckpointSpec, *, has_val: bool, monitor: MonitorSpec) -> None:
    """Check that a run measures the metric of ``keep_best``.

    Args:
        checkpoint: of the run.
        has_val: True = there are validation images.
        monitor: resolved.

    Raises:
        SpecError: it does not; says why.
    """
    name = checkpoint.keep_best
    if name is None:
        return
    split, _, figure = name.partition("_")
    other_split = "val" if has_val else "train"
    reason = None
    if split == "val" and not has_val:
        reason = "dataset.val is none, so there are no validation images"
    elif figure.startswith("knn") and not monitor.knn:
        reason = "monitor.knn is false"
    elif figure in SPECTRUM_METRICS and not monitor.spectrum:
        reason = "monitor.spectrum is false"
    elif figure in SPECTRUM_METRICS and split != other_split:
        reason = f"this run measures {other_split}_{figure}"
    if reason is not None:
        raise _not_measured(name, reason)


def check_best_accuracy(checkpoint: CheckpointSpec, *, binary_labels: bool) -> None:
    """Check that the accuracy of ``keep_best`` suits the labels.

    Args:
        checkpoint: of the run.
        binary_labels: True = images have several binary labels instead of one class.

    Raises:
        SpecError: it does not; names the one that does.
    """
    here, there = ("accuracy", "top1") if binary_labels else ("top1", "accuracy")
    name = checkpoint.keep_best
    if name is not None and name.endswith(there):
        raise _not_measured(name, f"these images have {name.removesuffix(there)}{here}")


def _not_measured(name: str, reason: str) -> SpecError:
    return SpecError(
        f"checkpoint.keep_best: {name} is not measured: {reason}", field=("checkpoint", "keep_best")
    )


def check_retention(checkpoint: CheckpointSpec, epochs: int) -> None:
    """Check the retention of a run of ``epochs``.

    Raises:
        SpecError: a field without effect, or an epoch that the run does not have.
    """
    if checkpoint.keep_best is not None and checkpoint.keep_last is None:
        raise SpecError(
            "checkpoint.keep_best: without keep_last every checkpoint is kept; give keep_last too",
            field=("checkpoint", "keep_best"),
        )
    late = [epoch for epoch in checkpoint.milestones if epoch > epochs]
    if late:
        raise SpecError(
            f"checkpoint.milestones: the run has {epochs} epochs, {late[0]} is none of them",
            field=("checkpoint", "milestones"),
        )
