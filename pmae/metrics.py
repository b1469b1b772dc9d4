"""Metrics of a training run: name, meaning and direction of each, in one place.

The trainer writes these names, and charts, the list of runs, its filters and orders, ``keep_best``
and the command line look them up here. Imports no torch. docs/training.md explains the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

BANDS = ("0_50", "50_80", "80_95", "95_100")
"""Bands of a spectrum: from which to which per cent of the total variance they go."""
EXPLAINED_VARIANCE = "explained_variance"
"""Name of the metric after ``train_`` or ``val_``; ``_<band>`` may follow."""
Better = Literal["higher", "lower"]
Split = Literal["train", "val", "test"]
When = Literal["step", "epoch", "end"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: in events, in SQL, in the API.
        title: for people.
        better: which of two values is the better one; None: neither is.
        split: the images that it is measured on; None: it is of no images.
        when: after some steps, after epochs, or when pretraining has ended.
        unit: ``fraction`` is from 0 to 1, and shown in percent; None: a plain number.
    """

    name: str
    title: str
    better: Better | None
    split: Split | None
    when: When
    unit: str | None = None

    @property
    def is_fraction(self) -> bool:
        """True if the metric is shown in percent."""
        return self.unit == "fraction"

    def goodness(self, value: float) -> float:
        """``value``, or its negative where lower is better: the greatest is the best.

        Raises:
            ValueError: the metric has no better direction.
        """
        if self.better is None:
            raise ValueError(f"no value of {self.name} is better than another")
        return value if self.better == "higher" else -value


def band_title(band: str) -> str:
    """A band of the spectrum for people: ``0_50`` is "0 to 50 %"."""
    return f"{band.replace('_', ' to ')} %"


_SPLITS: tuple[tuple[Split, str], ...] = (("train", "train"), ("val", "validation"))


def _of_both_splits(
    name: str, title: str, better: Better | None, unit: str | None = None
) -> list[Metric]:
    """A metric that each epoch has of the train and of the validation images."""
    return [
        Metric(
            name=f"{split}_{name}",
            title=f"{title}, {words}",
            better=better,
            split=split,
            when="epoch",
            unit=unit,
        )
        for split, words in _SPLITS
    ]


def _of_validation(
    name: str, title: str, better: Better | None, unit: str | None = None
) -> list[Metric]:
    """A metric that an epoch has of the validation images only."""
    return _of_both_splits(name, title, better, unit)[1:]


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="loss", title="Loss of a step", better="lower", split="train", when="step"),
        Metric(name="lr", title="Learning rate", better=None, split=None, when="step"),
        Metric(
            name="masked_share",
            title="Masked share",
            better=None,
            split=None,
            when="step",
            unit="fraction",
        ),
        *_of_both_splits("loss", "Loss", "lower"),
        *_of_both_splits(EXPLAINED_VARIANCE, "Explained variance", "higher", "fraction"),
        *(
            metric
            for band in BANDS
            for metric in _of_both_splits(
                f"{EXPLAINED_VARIANCE}_{band}",
                f"Explained variance from {band_title(band)}",
                "higher",
                "fraction",
            )
        ),
        *_of_both_splits("online_probe_loss", "Online probe's loss", "lower", "nats"),
        *_of_both_splits("online_probe_top1", "Online probe", "higher", "fraction"),
        *_of_both_splits("online_probe_accuracy", "Online probe, labels", "higher", "fraction"),
        *_of_validation("knn_top1", "k-NN", "higher", "fraction"),
        *_of_validation("knn_accuracy", "k-NN, labels", "higher", "fraction"),
        *_of_both_splits("rankme", "RankMe", "higher"),
        *_of_both_splits("feature_rank", "Effective rank of the features", "higher"),
        *_of_both_splits("feature_first_share", "First component's share", None, "fraction"),
        *_of_both_splits("feature_ten_share", "First ten components' share", None, "fraction"),
        *_of_both_splits("feature_std", "Features' deviation", None),
        Metric(
            name="top1",
            title="Linear probe, test",
            better="higher",
            split="test",
            when="end",
            unit="fraction",
        ),
    )
}
"""Every metric by its name. ``*_top1`` is of data with classes, ``*_accuracy`` of data whose images
have several binary labels: the fraction of labels that are right."""

BAND_METRICS = frozenset(
    f"{split}_{EXPLAINED_VARIANCE}_{band}" for split, _ in _SPLITS for band in BANDS
)
"""Metrics of one band of the spectrum; useful in charts, too many for a line of text."""

SPECTRUM_METRICS = (
    "rankme",
    "feature_rank",
    "feature_first_share",
    "feature_ten_share",
    "feature_std",
)
"""Metrics of the spectrum of the features; a name has the split before it."""
BEST_METRICS = tuple(m.name for m in METRICS.values() if m.when == "epoch" and m.better)
"""Metrics that can choose the best checkpoint of a run."""


ONLINE_PROBE = ("val_online_probe_top1", "val_online_probe_accuracy")
"""A run has one of these: its data have classes, or several binary labels."""
EPOCH_LOSS = "train_loss"
"""A run has a point of it after each epoch."""
LOSSES = ("val_loss", EPOCH_LOSS, "loss")
"""The loss of a run in a list is the first of these that it has."""
FIGURES = ("loss", EPOCH_LOSS, "val_loss", "val_explained_variance", *ONLINE_PROBE)
"""Metrics whose newest values stand above the charts of a run."""
RANKING = (*ONLINE_PROBE, "val_knn_top1", "val_explained_variance", "val_loss")
"""Metrics offered for ranking runs, the most useful first."""
CHARTS: Mapping[str, tuple[str, ...]] = {
    "loss": ("loss", EPOCH_LOSS, "val_loss"),
    "explained": ("train_explained_variance", "val_explained_variance"),
    "probe": ("val_knn_top1", "train_online_probe_top1", "val_online_probe_top1"),
    "label_probe": (
        "val_knn_accuracy",
        "train_online_probe_accuracy",
        "val_online_probe_accuracy",
    ),
    "bands": tuple(f"val_{EXPLAINED_VARIANCE}_{band}" for band in BANDS),
    "probe_loss": ("train_online_probe_loss", "val_online_probe_loss"),
    "rank": ("val_rankme", "val_feature_rank", "train_rankme", "train_feature_rank"),
    "share": (
        "val_feature_ten_share",
        "val_feature_first_share",
        "train_feature_ten_share",
        "train_feature_first_share",
    ),
}
"""The metrics of each chart of a run; what a chart looks like is the dashboard's."""


def unknown_metric(name: str, valid: Iterable[str] = METRICS) -> str:
    """Say that a metric is unknown, and which ones there are."""
    return f"{name!r} is no metric; valid are {', '.join(valid)}"
