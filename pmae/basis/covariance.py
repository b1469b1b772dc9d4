"""The exact covariance of the pixels, in one pass over any number of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pmae.basis.stream import check_count, check_total, chunks

_BLOCK = 512
"""Rows of the matrix that one product fills, from the diagonal on. Skipping the entries below the
diagonal saves almost half of the work."""
_FOLD_IMAGES = 1 << 16
"""Images to sum in float32, whose rounding error is then far below that of ``eigh``; the sums of
more images are accumulated in float64."""


@dataclass(frozen=True)
class Covariance:
    """Covariance and mean of the pixels.

    Attributes:
        matrix: ``(num_pixels, num_pixels)`` float32; only the upper triangle is filled.
        mean: ``(num_pixels,)`` float64.
    """

    matrix: Tensor
    mean: Tensor


def covariance(batches: Iterable[Tensor]) -> Covariance:
    """Compute ``mean((x - mean x) (x - mean x)^T)`` over all images.

    Needs memory for one float32 matrix ``(num_pixels, num_pixels)``; with more than 65,536 images
    for a float64 one as well.

    Args:
        batches: images, each ``(batch, ...)`` float32 with the same pixel count.

    Raises:
        BasisError: fewer than two images, no variance at all, or values that are not finite.
    """
    sums: _Products | None = None
    for chunk in chunks(batches):
        sums = sums or _Products(chunk)
        sums.add(chunk)
    if sums is None:
        check_count(0)
        raise AssertionError
    check_count(sums.count)
    result = sums.covariance()
    check_total(float(result.matrix.diagonal().double().sum()))
    return result


class _Products:
    """Sums of ``x`` and ``x x^T`` over images from which the first chunk's mean is subtracted.

    The shift avoids cancellation where the mean is far from zero.
    """

    def __init__(self, first: Tensor) -> None:
        size = first.shape[1]
        self.count = 0
        self._shift = first.mean(dim=0)
        self._total = torch.zeros(size, dtype=torch.float64, device=first.device)
        self._upper = torch.zeros(size, size, device=first.device)
        self._in_upper = 0
        self._folded: Tensor | None = None

    def add(self, chunk: Tensor) -> None:
        chunk -= self._shift
        if self._in_upper >= _FOLD_IMAGES:
            self._fold()
        for start in range(0, chunk.shape[1], _BLOCK):
            stop = start + _BLOCK
            self._upper[start:stop, start:].addmm_(chunk[:, start:stop].T, chunk[:, start:])
        self._total += chunk.sum(dim=0, dtype=torch.float64)
        self.count += len(chunk)
        self._in_upper += len(chunk)

    def _fold(self) -> None:
        if self._folded is None:
            self._folded = torch.zeros_like(self._upper, dtype=torch.float64)
        self._folded += self._upper
        self._upper.zero_()
        self._in_upper = 0

    def covariance(self) -> Covariance:
        mean = self._total / self.count
        if self._folded is not None:
            self._fold()
            self._folded.div_(self.count).addr_(mean, mean, alpha=-1)
            self._upper.copy_(self._folded)
            self._folded = None
        else:
            near = mean.float()
            self._upper.div_(self.count).addr_(near, near, alpha=-1)
        return Covariance(self._upper, mean + self._shift)
