"""What a run shows of its progress beside the losses."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from pmae.errors import SpecError
from pmae.spec.base import PositiveInt, SpecModel
from pmae.spec.parts.evaluation import Pooling

_MIN_IMAGES = 512
_MAX_MEASUREMENTS = 40
"""Of a run, where its spec does not say how often."""


class MonitorSpec(SpecModel):
    """What a run measures of its own features while it trains."""

    online_probe: Literal["standardized", "raw"] = Field(
        default="standardized",
        description="What the linear classifier that trains beside the model sees. standardized: "
        "each feature by its mean and deviation over the steps before, as MAE's linear probe does; "
        "it is validated on whole images. raw: features as they are, validated on masked images, "
        "which understates them; what version 1 did.",
    )
    knn: bool | None = Field(
        default=None,
        description="Measure the k-NN accuracy on validation images, by the features of training "
        "images (`val_knn_top1`, or `val_knn_accuracy` of binary labels). Default: true where "
        "there are validation images.",
    )
    k: PositiveInt = Field(
        default=10, le=1000, description="Neighbours that vote; fixed, since nothing is chosen."
    )
    spectrum: bool = Field(
        default=True,
        description="Measure the rank and the spectrum of the features (`val_rankme` and others, "
        "`train_rankme` where there are no validation images), which show a collapse.",
    )
    images: PositiveInt | None = Field(
        default=None,
        le=65_536,
        description="Use at most so many training and so many validation images, a seeded choice "
        f"that stays the same. Default: {_MIN_IMAGES}, but at least twice the features and ten "
        "times the classes.",
    )
    features: Pooling = Field(
        default="cls",
        description="What represents an image to `knn` and `spectrum`: the CLS token, or the mean "
        "of the patch tokens.",
    )
    every_epochs: PositiveInt | None = Field(
        default=None,
        description="Epochs between two measurements of `knn` and `spectrum`; the end is always "
        f"measured. Default: what gives at most {_MAX_MEASUREMENTS} of them.",
    )


def resolve_monitor(
    monitor: MonitorSpec, *, epochs: int, embed_dim: int, num_classes: int | None, has_val: bool
) -> MonitorSpec:
    """The monitor with its defaults written out.

    Args:
        monitor: as its author wrote it.
        epochs: of the run.
        embed_dim: number of features.
        num_classes: of the data set; None: not known before it is read.
        has_val: whether there are validation images.

    Raises:
        SpecError: k-NN without validation images.
    """
    if monitor.knn and not has_val:
        raise SpecError(
            "monitor.knn: it classifies validation images, and dataset.val is none; valid is false",
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
