"""Running sums over the steps of an epoch: loss, online probe, explained variance."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pmae.methods.base import Score
from pmae.metrics import EXPLAINED_VARIANCE
from pmae.runtime.transfer import to_device

_NAMES = ("loss", "correct", "probe_loss", "images")


def step_sums(
    score: Score, loss_weight: float, correct: Tensor, probe_loss: Tensor, images: int
) -> Tensor:
    """Sum over the images of a step, or of a part of it, on the device that computed them.

    Args:
        score: loss and explained variance of the images.
        loss_weight: weight of the loss; for a whole batch the number of images.
        correct: images that the online probe classifies correctly, a float64 scalar.
        probe_loss: the online probe's loss, mean over the images.
        images: number of images.

    Returns:
        float64 ``(4 + 2 * bands,)``: loss, correct, the probe's loss, images, and each band's
        residual and target.
    """
    loss = score.loss.detach().double() * loss_weight
    count = torch.full_like(loss, images)
    of_probe = probe_loss.detach().double() * images
    means = torch.stack([loss, correct, of_probe, count])
    return torch.cat([means, score.residual, score.target])


class EpochSums:
    """Running sums over the finished steps of the current epoch; part of a checkpoint.

    They stay on the device that computes; reading them waits for it.

    Args:
        bands: names of the spectrum bands of the explained variance.
        counters: result of :meth:`counters` in a checkpoint. Sums that an older version did not
            store are NaN for the current epoch, whose metrics leave them out.

    Attributes:
        values: float64, in the order of :func:`step_sums`.
    """

    def __init__(self, bands: tuple[str, ...], counters: Mapping[str, float] | None = None) -> None:
        self._bands = bands
        parts = [f"{kind}_{band}" for kind in ("residual", "target") for band in bands]
        self._names = (*_NAMES, *parts)
        known = counters or {}
        missing = math.nan if known.get("images") else 0.0
        values = [known.get(name, missing) for name in self._names]
        self.values = torch.tensor(values, dtype=torch.float64)

    def add(self, sums: Tensor) -> None:
        """Add the ``sums`` of one step, from :func:`step_sums`."""
        self.values = to_device(self.values, sums.device) + sums

    def counters(self) -> dict[str, float]:
        """Return the sums by name, for a checkpoint."""
        return dict(zip(self._names, self.values.tolist(), strict=True))

    def means(self, split: str, accuracy: str) -> dict[str, float]:
        """Compute the metrics of an epoch.

        The explained fraction of the masked variance is ``1 - residual / target``; it is left out
        of bands in which nothing was masked.

        Args:
            split: train or val.
            accuracy: name of the online probe's accuracy metric.
        """
        values = self.values.cpu()
        loss, correct, probe_loss, images = values[: len(_NAMES)].tolist()
        residual, target = values[len(_NAMES) :].chunk(2)
        explained = {f"{split}_{EXPLAINED_VARIANCE}": (residual.sum(), target.sum())}
        if len(self._bands) > 1:
            for band, left, whole in zip(self._bands, residual, target, strict=True):
                explained[f"{split}_{EXPLAINED_VARIANCE}_{band}"] = left, whole
        return {
            f"{split}_loss": loss / images,
            f"{split}_online_probe_{accuracy}": correct / images,
            f"{split}_online_probe_loss": probe_loss / images,
            **{name: 1 - float(r / t) for name, (r, t) in explained.items() if t > 0},
        }
