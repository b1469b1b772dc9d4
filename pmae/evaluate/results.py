"""What an evaluation found, as it is recorded. Imports no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pmae.spec.parts.evaluation import Layers, Pooling, Protocol

Source = Literal["encoder", "untrained_encoder", "raw_pixels"]
MOST_CLASSES_TOLD = 50
"""A trainer's event holds the confusion matrix of so many classes at most: lines stay short."""
MAX_CURVE_POINTS = 500
_DIGITS = 5


class LayerResult(BaseModel):
    """The figures at one depth."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int = Field(description="Block of the encoder, from 1.")
    top1: float
    top1_std: float | None = None
    val_top1: float | None = None
    k: int | None = Field(default=None, description="k-NN: chosen on validation.")


class ClassifierCurve(BaseModel):
    """Loss and accuracy after each epoch of a classifier's training, the mean over the seeds.

    Nothing is chosen by it: the figures of the evaluation are the last epoch's. Accuracy is from 0
    to 1; of binary labels, the share that is right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: list[int] = Field(
        description=f"From 1; of more than {MAX_CURVE_POINTS} some, the last among them."
    )
    train_loss: list[float] = Field(description="Mean over the epoch's batches, as it saw them.")
    train_accuracy: list[float]
    val_loss: list[float] | None = Field(default=None, description="Null without such a split.")
    val_accuracy: list[float] | None = None
    test_loss: list[float]
    test_accuracy: list[float]


class BestEpoch(BaseModel):
    """The best test accuracy over the epochs of a classifier's training.

    It is chosen on test, as the published results script does: above what another set of images
    would give, and not to be compared with ``top1``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    top1: float = Field(description="0 to 1; the mean over the seeds, each at its own best epoch.")
    top1_by_seed: list[float]
    epochs: list[int] = Field(description="Of each seed, from 1.")


class EvaluationResult(BaseModel):
    """One evaluation's outcome. Figures are of the test split unless they say otherwise.

    Where images have several binary labels, ``top1`` is the share of labels that are right and
    ``macro_f1`` and ``balanced_accuracy`` each label's own; all are means over the labels.
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
        default=None, description="Sample standard deviation over the seeds, of two or more."
    )
    top1_by_seed: list[float]
    top5: float | None = Field(default=None, description="Where there are more than 5 classes.")
    top5_std: float | None = None
    macro_f1: float
    macro_f1_std: float | None = None
    balanced_accuracy: float | None = Field(
        default=None,
        description="Mean over the classes of the share of each one's images that are recognised: "
        "the figure to look at where classes are of unequal size. Null in older results.",
    )
    balanced_accuracy_std: float | None = None
    val_top1: float | None = Field(
        default=None,
        description="On the validation split; what choices are made by. Null without one.",
    )
    val_balanced_accuracy: float | None = None
    per_class: list[float | None] = Field(
        description="Accuracy of each class (or binary label), the mean over the seeds; null where "
        "the split has no image of it."
    )
    confusion_matrix: list[Any] | None = Field(
        default=None,
        description="Images by true class (row) and predicted class (column), of the first seed; "
        "of binary labels one 2 x 2 matrix each.",
    )
    by_layer: list[LayerResult] = Field(default_factory=list, description="With `layers: all`.")
    chosen: dict[str, int] = Field(
        default_factory=dict, description="What was chosen on validation: k, or the best layer."
    )

    curve: ClassifierCurve | None = Field(
        default=None, description="Of what is trained by epochs; of the last block's classifier."
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
        description="Of the encoder's arithmetic; null for raw pixels, and in older results, whose "
        "encoder computed in fp32.",
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
        """What a trainer's event holds beside its own fields."""
        own = {"key", "protocol", "source", "step", "epoch", "split", "top1", "class_names"}
        if len(self.per_class) > MOST_CLASSES_TOLD:
            own.add("confusion_matrix")
        return self.model_dump(mode="json", exclude=own, exclude_none=True)


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the sample standard deviation of two values or more."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def optional_mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are there."""
    found = [value for value in values if value is not None and not math.isnan(value)]
    return statistics.fmean(found) if found else None


def curve_figures(seeds: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """The fields ``curve`` and ``best_epoch`` of a result.

    Args:
        seeds: of each, a value an epoch by ``<split>_loss`` and ``<split>_accuracy``.
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
