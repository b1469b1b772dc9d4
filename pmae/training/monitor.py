"""Monitor of a run's features during training: k nearest neighbours, rank and spectrum.

Metrics are computed on a fixed subset of unmasked images without augmentation, and change neither
the model nor any random state. docs/training.md defines each metric.
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
"""Added to each fraction, as in arXiv 2210.02885."""
_FIRST = 10
"""Numbers of components whose fraction of the features' variance is reported."""


def effective_rank(singular_values: Tensor) -> float:
    """Effective rank: 1 for a single non-zero singular value, ``n`` for ``n`` equal ones.

    ``exp(-sum of p log p)`` with ``p`` the values divided by their sum (Roy and Vetterli, 2007;
    RankMe, arXiv 2210.02885, equation 1); 1 if all are zero.

    Args:
        singular_values: ``(n,)``, non-negative.
    """
    total = singular_values.sum()
    if total == 0:
        return 1.0
    shares = singular_values / total + RANKME_EPSILON
    return float((-(shares * shares.log()).sum()).exp())


def feature_spectrum(features: Tensor) -> dict[str, float]:
    """Compute metrics of the features' spectrum, by their names without ``val_``.

    Args:
        features: ``(n, dim)``, one row per image.

    Returns:
        ``rankme``: effective rank of the raw features. ``feature_rank``: effective rank of the
        centred features. ``feature_first_share`` and ``feature_ten_share``: fraction of the
        features' variance in the first, and the first ten, principal components.
        ``feature_std``: standard deviation over the images, averaged over the features.
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
    """Accuracy, 0 to 1, of a k-nearest-neighbour vote over images or their binary labels.

    Args:
        queries: features of one layer, to classify.
        bank: features of one layer, whose labels vote.
        k: number of neighbours; all of the bank if it has fewer.
        num_classes: number of classes or binary labels.
    """
    k = min(k, len(bank.labels))
    (counts,) = votes(nearest(queries.values[0], bank.values[0], k), bank.labels, (k,), num_classes)
    return float(correct_predictions(counts, queries.labels)) / len(queries.labels)


class Monitor:
    """Monitor of one run's features.

    Args:
        spec: resolved spec.
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
        """Return True if the features are to be measured after this epoch.

        Args:
            epoch: finished epochs; the last epoch of the run is always measured.
            chooses: a checkpoint is written that these metrics may select.
        """
        assert self._spec.every_epochs is not None, "the monitor is not resolved"
        now = chooses or epoch % self._spec.every_epochs == 0 or epoch == self._epochs
        return now and (self._spec.spectrum or self._bank is not None)

    def measure(self, encoder: Encoder, statistics: PixelStatistics) -> dict[str, float]:
        """Compute the metrics of the encoder's features.

        Args:
            encoder: left unchanged, its mode included.
            statistics: pixel statistics of the train split.
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
        """Choose a fixed subset of at most as many images as the spec sets."""
        assert self._spec.images is not None, "the monitor is not resolved"
        if len(split) <= self._spec.images:
            return split
        order = torch.randperm(len(split), generator=generator(seed, "monitor", index))
        return split.select(order[: self._spec.images].sort().values)
