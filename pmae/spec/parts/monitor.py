"""Spec of the measurements of a run's features during training."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from pmae.errors import SpecError
from pmae.spec.base import PositiveInt, SpecModel
from pmae.spec.parts.evaluation import Pooling

_MIN_IMAGES = 512
_MAX_MEASUREMENTS = 40
"""Default number of measurements of a run, at most."""


class MonitorSpec(SpecModel):
    """Measurements of a run's features during training."""

    online_probe: Literal["standardized", "raw"] = Field(
        default="standardized",
        description="Input of the linear classifier that trains beside the model. standardized: "
        "each feature by its running mean and standard deviation, as in MAE's linear probe, "
        "validated on whole images. raw: unchanged features, validated on masked images, which "
        "understates them; as in version 1.",
    )
    knn: bool | None = Field(
        default=None,
        description="Measure the k-NN accuracy on validation images, by the features of training "
        "images (`val_knn_top1`, or `val_knn_accuracy` for binary labels). Default: true if there "
        "are validation images.",
    )
    k: PositiveInt = Field(
        default=10, le=1000, description="Neighbours of `knn`; a fixed number, not tuned."
    )
    spectrum: bool = Field(
        default=True,
        description="Measure the rank and the spectrum of the features (`val_rankme` and others, "
        "`train_rankme` without validation images), which show a collapse.",
    )
    images: PositiveInt | None = Field(
        default=None,
        le=65_536,
        description="Use at most this many training and this many validation images, a seeded "
        f"choice that does not change. Default: {_MIN_IMAGES}, but at least twice the features and "
        "ten times the classes.",
    )
    features: Pooling = Field(
        default="cls",
        description="Representation of an image for `knn` and `spectrum`: the CLS token, or the "
        "mean of the patch tokens.",
    )
    every_epochs: PositiveInt | None = Field(
        default=None,
        description="Epochs between two measurements of `knn` and `spectrum`; the end is always "
        f"measured. Default: chosen to give at most {_MAX_MEASUREMENTS} measurements.",
    )


def resolve_monitor(
    monitor: MonitorSpec, *, epochs: int, embed_dim: int, num_classes: int | None, has_val: bool
) -> MonitorSpec:
    """Fill in the defaults of a monitor.

    Args:
        monitor: as its author wrote it.
        epochs: of the run.
        embed_dim: number of features.
        num_classes: of the data set; None: depends on the files.
        has_val: True = there are validation images.

    Raises:
        SpecError: k-NN without validation images.
    """
    if monitor.knn and not has_val:
        raise SpecError(
            "monitor.knn: it classifies validation images, and dataset.val is none; expected false",
            field=("monitor", "knn"),
        )
    images = max(_MIN_IMAGES, 2 * embed_dim, 10 * (num_classes or 0))
    return monitor.model_copy(
        update={
            "knn": has_val if monitor.knn is None else monitor.knn,
            "images": monitor.images or images,
            "every_epochs": monitor.every_epochs or math.ceil(epochs / _MAX_MEASUREMENTS),
        }
    )
