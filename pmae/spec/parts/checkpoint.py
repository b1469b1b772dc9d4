"""When weights and training state are written, and which stay."""

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
    """When weights and training state are written."""

    every_epochs: PositiveInt = Field(
        default=100, description="Kept checkpoints; the last is kept too."
    )
    milestones: tuple[PositiveInt, ...] = Field(
        default=(), max_length=1000, description="Epochs whose checkpoints are made and stay."
    )
    keep_last: PositiveInt | None = Field(
        default=None,
        description="Keep only so many of the newest checkpoints, the best one (`keep_best`), "
        "milestones, and those that somebody pinned; default: keep all.",
    )
    keep_best: Annotated[str, AfterValidator(_best_metric)] | None = Field(
        default=None,
        json_schema_extra={"enum": [*BEST_METRICS, None]},
        description="Keep the checkpoint with the best value of this metric too: the lowest of a "
        "loss, the highest of an accuracy. Data whose images have several binary labels have "
        "`*_accuracy` instead of `*_top1`.",
    )
    latest_seconds: float = Field(
        default=30.0,
        ge=0,
        description="The rolling checkpoint is replaced at the first step after this long, or "
        "after a second for each 16 MiB of it where that is longer: what a killed run loses, and "
        "what the dashboard shows.",
    )


def check_best(checkpoint: CheckpointSpec, *, has_val: bool, monitor: MonitorSpec) -> None:
    """Check that a run measures the metric that chooses its best checkpoint.

    Args:
        checkpoint: of the run.
        has_val: whether there are validation images.
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
        reason = "dataset.val is none, so that no figure is of validation images"
    elif figure.startswith("knn") and not monitor.knn:
        reason = "monitor.knn is false"
    elif figure in SPECTRUM_METRICS and not monitor.spectrum:
        reason = "monitor.spectrum is false"
    elif figure in SPECTRUM_METRICS and split != other_split:
        reason = f"of this run it is {other_split}_{figure}"
    if reason is not None:
        raise _not_measured(name, reason)


def check_best_accuracy(checkpoint: CheckpointSpec, *, binary_labels: bool) -> None:
    """Check that an accuracy that chooses the best checkpoint is one of the images.

    Args:
        checkpoint: of the run.
        binary_labels: whether an image has several binary labels instead of one class.

    Raises:
        SpecError: it is not; names the one that is.
    """
    here, there = ("accuracy", "top1") if binary_labels else ("top1", "accuracy")
    name = checkpoint.keep_best
    if name is not None and name.endswith(there):
        raise _not_measured(name, f"of these images it is {name.removesuffix(there)}{here}")


def _not_measured(name: str, reason: str) -> SpecError:
    return SpecError(
        f"checkpoint.keep_best: {name} is not measured: {reason}", field=("checkpoint", "keep_best")
    )


def check_retention(checkpoint: CheckpointSpec, epochs: int) -> None:
    """Check the retention of a run of ``epochs``.

    Raises:
        SpecError: a field that says nothing, or an epoch that the run does not have.
    """
    if checkpoint.keep_best is not None and checkpoint.keep_last is None:
        raise SpecError(
            "checkpoint.keep_best: every checkpoint stays as long as keep_last is not given; "
            "give keep_last too",
            field=("checkpoint", "keep_best"),
        )
    late = [epoch for epoch in checkpoint.milestones if epoch > epochs]
    if late:
        raise SpecError(
            f"checkpoint.milestones: the run has {epochs} epochs, {late[0]} is none of them",
            field=("checkpoint", "milestones"),
        )
