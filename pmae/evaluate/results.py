"""Results of evaluations, as they are recorded. Imports no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pmae.spec.parts.evaluation import Layers, Pooling, Protocol

Source = Literal["encoder", "untrained_encoder", "raw_pixels"]
_MAX_CONFUSION_CLASSES = 50
"""Maximal number of classes whose confusion matrix is part of an event: lines stay short."""
MAX_CURVE_POINTS = 500
_DIGITS = 5


class LayerResult(BaseModel):
    """Metrics at one depth."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int = Field(description="Block of the encoder, from 1.")
    top1: float
    top1_std: float | None = None
    val_top1: float | None = None
    k: int | None = Field(default=None, description="k-NN: chosen on validation.")


class ClassifierCurve(BaseModel):
    """Loss and accuracy after each epoch of a classifier's training, averaged over the seeds.

    No epoch is chosen by it: the evaluation's metrics are the last epoch's. Accuracy is from 0 to
    1; for binary labels, the fraction of correct ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: list[int] = Field(
        description=f"From 1; at most {MAX_CURVE_POINTS}, evenly spaced, including the last."
    )
    train_loss: list[float] = Field(
        description="Mean over the epoch's batches, each before its step."
    )
    train_accuracy: list[float]
    val_loss: list[float] | None = Field(default=None, description="Null without this split.")
    val_accuracy: list[float] | None = None
    test_loss: list[float]
    test_accuracy: list[float]


class BestEpoch(BaseModel):
    """The best test accuracy over the epochs of a classifier's training.

    It is chosen on test images, as in the published results script, and so overestimates the
    accuracy on other images: do not compare it with ``top1``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    top1: float = Field(description="0 to 1; the mean over the seeds, each at its own best epoch.")
    top1_by_seed: list[float]
    epochs: list[int] = Field(description="Of each seed, from 1.")


class EvaluationResult(BaseModel):
    """Result of one evaluation. Metrics are of the test split unless they say otherwise.

    If images have several binary labels, ``top1`` is the fraction of correct labels, and
    ``macro_f1`` and ``balanced_accuracy`` are means over the labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    protocol: Protocol
    source: Source
    dataset: str
    step: int
    epoch: float
    split: Literal["test"] = "test"

    top1: float = Field(description="0 to 1; the mean over the seeds.")
    top1_std: float | None = Field(
        default=None, description="Sample standard deviation over the seeds; null for one seed."
    )
    top1_by_seed: list[float]
    top5: float | None = Field(default=None, description="Null for 5 classes or fewer.")
    top5_std: float | None = None
    macro_f1: float
    macro_f1_std: float | None = None
    balanced_accuracy: float | None = Field(
        default=None,
        description="Mean recall over the classes: the figure to look at if classes are "
        "unbalanced. Null in older results.",
    )
    balanced_accuracy_std: float | None = None
    val_top1: float | None = Field(
        default=None,
        description="On the validation split, for making choices. Null without one.",
    )
    val_balanced_accuracy: float | None = None
    per_class: list[float | None] = Field(
        description="Accuracy of each class (or binary label), averaged over the seeds; null if "
        "the split has no image of it."
    )
    confusion_matrix: list[Any] | None = Field(
        default=None,
        description="Images by true class (row) and predicted class (column), of the first seed; "
        "a 2 x 2 matrix for each binary label.",
    )
    by_layer: list[LayerResult] = Field(default_factory=list, description="With `layers: all`.")
    chosen: dict[str, int] = Field(
        default_factory=dict, description="What was chosen on validation: k, or the best layer."
    )

    curve: ClassifierCurve | None = Field(
        default=None,
        description="Of the last block's classifier; null for k-NN, which is not trained.",
    )
    best_epoch: BestEpoch | None = Field(
        default=None, description="Chosen on test, for a comparison with published figures only."
    )

    features: Pooling | None = Field(default=None, description="Null for raw pixels.")
    layers: Layers = "last"
    standardize: bool | None = None
    recipe: str | None = None
    precision: Literal["fp32", "bf16"] | None = Field(
        default=None,
        description="Of the encoder; null for raw pixels, and in older results (fp32).",
    )
    seeds: list[int]
    spec: dict[str, Any] = Field(description="The evaluation's spec, resolved.")
    class_names: list[str] | None = None
    num_train: int
    num_val: int
    num_test: int
    feature_dim: int
    duration_seconds: float
    checkpoint_sha256: str = Field(description="Of model.safetensors.")
    data_digest: str

    def details(self) -> dict[str, Any]:
        """The fields for ``details`` of a trainer's event."""
        own = {"key", "protocol", "source", "step", "epoch", "split", "top1", "class_names"}
        if len(self.per_class) > _MAX_CONFUSION_CLASSES:
            own.add("confusion_matrix")
        return self.model_dump(mode="json", exclude=own, exclude_none=True)


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the sample standard deviation, None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def optional_mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are neither None nor NaN; None if there are none."""
    found = [value for value in values if value is not None and not math.isnan(value)]
    return statistics.fmean(found) if found else None


def curve_figures(seeds: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Compute the fields ``curve`` and ``best_epoch`` of a result.

    Args:
        seeds: for each, the values of the epochs by ``<split>_loss`` and ``<split>_accuracy``.
    """
    num_epochs = len(seeds[0]["train_loss"])
    every = math.ceil(num_epochs / MAX_CURVE_POINTS)
    epochs = [epoch for epoch in range(1, num_epochs + 1) if (num_epochs - epoch) % every == 0]
    curve = {
        name: [
            round(statistics.fmean(seed[name][epoch - 1] for seed in seeds), _DIGITS)
            for epoch in epochs
        ]
        for name in seeds[0]
    }
    tests = [seed["test_accuracy"] for seed in seeds]
    best = [max(test) for test in tests]
    return {
        "curve": ClassifierCurve.model_validate({"epochs": epochs, **curve}),
        "best_epoch": BestEpoch(
            top1=statistics.fmean(best),
            top1_by_seed=best,
            epochs=[list(test).index(top1) + 1 for test, top1 in zip(tests, best, strict=True)],
        ),
    }
