"""Quality of a run's features while it trains: k nearest neighbours, rank and spectrum.

They are measured on whole images without augmentation, a fixed choice of them, and change nothing:
neither the model nor any random state. docs/training.md says what each figure means.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pmae.data.images import ImageData, Split
from pmae.data.transforms.standardize import PixelStatistics
from pmae.evaluate.features import Features, extract
from pmae.evaluate.knn import nearest, votes
from pmae.methods.losses import correct_predictions
from pmae.models.autoencoder import Encoder
from pmae.seeding import generator
from pmae.spec import ExperimentSpec, MonitorSpec

RANKME_EPSILON = 1e-7
"""Added to each share, as in arXiv 2210.02885."""
_FIRST = 10
"""Components whose share of the features' variance is told."""


def effective_rank(singular_values: Tensor) -> float:
    """How many directions the values spread over: 1 for one, ``n`` for ``n`` equal ones.

    ``exp(-sum of p log p)`` with ``p`` the values' shares of their sum (Roy and Vetterli, 2007;
    RankMe, arXiv 2210.02885, equation 1). 1 where all are zero.

    Args:
        singular_values: ``(n,)``, at least 0.
    """
    total = singular_values.sum()
    if total == 0:
        return 1.0
    shares = singular_values / total + RANKME_EPSILON
    return float((-(shares * shares.log()).sum()).exp())


def feature_spectrum(features: Tensor) -> dict[str, float]:
    """The figures of a spectrum, by the names that follow ``val_`` in a metric.

    Args:
        features: ``(n, dim)`` of images.

    Returns:
        ``rankme``: effective rank of the features as they are. ``feature_rank``: of the features
        without their mean. ``feature_first_share`` and ``feature_ten_share``: share of the
        features' variance that the first, and the first ten, principal components hold.
        ``feature_std``: standard deviation of a feature between images, the mean over the features.
    """
    values = features.double()
    centered = values - values.mean(dim=0)
    singular = torch.linalg.svdvals(centered)
    variance = singular.square()
    total = float(variance.sum())
    shares = variance / total if total else torch.zeros_like(variance)
    return {
        "rankme": effective_rank(torch.linalg.svdvals(values)),
        "feature_rank": effective_rank(singular),
        "feature_first_share": float(shares[0]),
        "feature_ten_share": float(shares[:_FIRST].sum()),
        "feature_std": float(centered.square().mean(dim=0).sqrt().mean()),
    }


def knn_accuracy(queries: Features, bank: Features, k: int, num_classes: int) -> float:
    """Fraction of images, or of their binary labels, that their nearest images tell right.

    Args:
        queries: of one layer.
        bank: of one layer; whose labels vote.
        k: how many neighbours vote, all of the bank if it has fewer.
        num_classes: classes or binary labels.
    """
    k = min(k, len(bank.labels))
    (counts,) = votes(nearest(queries.values[0], bank.values[0], k), bank.labels, (k,), num_classes)
    return float(correct_predictions(counts, queries.labels)) / len(queries.labels)


class Monitor:
    """Measures the features of one run.

    Args:
        spec: resolved.
        data: the run's images.
    """

    def __init__(self, spec: ExperimentSpec, data: ImageData) -> None:
        self._spec: MonitorSpec = spec.monitor
        self._epochs = spec.epochs
        self._num_classes = data.num_classes
        self._accuracy = "accuracy" if data.multi_label else "top1"
        self._bank = self._chosen(data.train, spec.seed, 0) if self._spec.knn else None
        self._split = "val" if data.has_val else "train"
        self._shown = self._chosen(data.split(self._split), spec.seed, 1)

    def due(self, epoch: int, *, chooses: bool) -> bool:
        """Whether something is to be measured after this epoch.

        Args:
            epoch: the last one of the run always is.
            chooses: a checkpoint is made that these figures may choose.
        """
        assert self._spec.every_epochs is not None, "the monitor is not resolved"
        now = chooses or epoch % self._spec.every_epochs == 0 or epoch == self._epochs
        return now and (self._spec.spectrum or self._bank is not None)

    def measure(self, encoder: Encoder, statistics: PixelStatistics) -> dict[str, float]:
        """The metrics of the encoder's features.

        Args:
            encoder: is left as it is, in its mode.
            statistics: of the train split.
        """
        found: dict[str, float] = {}
        pooling = self._spec.features
        shown = extract(encoder, self._shown, statistics, pooling, "last")
        if self._bank is not None:
            bank = extract(encoder, self._bank, statistics, pooling, "last")
            name = f"val_knn_{self._accuracy}"
            found[name] = knn_accuracy(shown, bank, self._spec.k, self._num_classes)
        if self._spec.spectrum:
            spectrum = feature_spectrum(shown.values[0])
            found |= {f"{self._split}_{name}": value for name, value in spectrum.items()}
        return found

    def _chosen(self, split: Split, seed: int, index: int) -> Split:
        """At most so many images as the spec says."""
        assert self._spec.images is not None, "the monitor is not resolved"
        if len(split) <= self._spec.images:
            return split
        order = torch.randperm(len(split), generator=generator(seed, "monitor", index))
        return split.select(order[: self._spec.images].sort().values)
