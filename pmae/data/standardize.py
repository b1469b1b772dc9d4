"""Per-pixel standardisation: mean and standard deviation over the train set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 4096


@dataclass(frozen=True)
class PixelStatistics:
    """What standardisation subtracts and divides by.

    Attributes:
        mean: ``(channels, height, width)`` float32, of pixels in [0, 1].
        std: the same shape, not below the floor it was computed with.
    """

    mean: Tensor
    std: Tensor

    def standardize(self, pixels: Tensor) -> Tensor:
        """``(batch, channels, height, width)``: from [0, 1] to zero mean and unit variance."""
        return (pixels - self.mean) / self.std

    def destandardize(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`standardize`."""
        return images * self.std + self.mean

    def to(self, device: torch.device) -> PixelStatistics:
        """A copy on ``device``."""
        return PixelStatistics(self.mean.to(device), self.std.to(device))


def pixel_statistics(images: Tensor, floor: float) -> PixelStatistics:
    """Mean and standard deviation of every pixel, in one pass of chunks.

    Args:
        images: ``(n, channels, height, width)`` uint8.
        floor: least standard deviation, of pixels in [0, 1]; pixels that never change get it.
    """
    total = torch.zeros(images.shape[1:], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for chunk in images.split(_CHUNK):
        values = chunk.double()
        total += values.sum(dim=0)
        squares += values.square().sum(dim=0)
    mean = total / len(images)
    variance = (squares / len(images) - mean.square()).clamp(min=0)
    std = (variance.sqrt() / 255).clamp(min=floor)
    return PixelStatistics((mean / 255).float(), std.float())
