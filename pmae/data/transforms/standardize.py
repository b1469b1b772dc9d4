"""Per-pixel standardisation: mean and standard deviation over the train set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_EXACT = 256
"""Squares of so many bytes add up to less than 2^24: exactly, in float32."""


@dataclass(frozen=True)
class PixelStatistics:
    """What standardisation subtracts and divides by.

    Attributes:
        mean: ``(channels, height, width)`` float32, of pixels in [0, 1].
        std: the same shape, not below the floor if it has one.
    """

    mean: Tensor
    std: Tensor

    def standardize(self, pixels: Tensor) -> Tensor:
        """``(batch, channels, height, width)``: from [0, 1] to zero mean and unit variance."""
        return (pixels - self.mean).div_(self.std)

    def destandardize(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`standardize`."""
        return images * self.std + self.mean

    def with_floor(self, floor: float) -> PixelStatistics:
        """A copy whose standard deviations are at least ``floor``, of pixels in [0, 1]."""
        return PixelStatistics(self.mean, self.std.clamp(min=floor))

    def to(self, device: torch.device) -> PixelStatistics:
        """A copy on ``device``."""
        return PixelStatistics(self.mean.to(device), self.std.to(device))


def check_pixels(images: Tensor | np.ndarray, shape: tuple[int, int, int]) -> Tensor:
    """Refuse what are no pixels of images of that shape.

    Args:
        images: ``(n, channels, height, width)``, uint8, or floats in [0, 1].
        shape: ``(channels, height, width)``.

    Returns:
        The images as they are, as a tensor.

    Raises:
        ValueError: another shape, type or range.
    """
    pixels = torch.as_tensor(images)
    if pixels.ndim != 4 or tuple(pixels.shape[1:]) != shape:
        raise ValueError(
            f"images of shape {tuple(pixels.shape)}; valid is (n, {', '.join(map(str, shape))})"
        )
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise ValueError(f"images of type {pixels.dtype}; valid are uint8, or floats in [0, 1]")
    if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError("float images are to be in [0, 1], or give them as uint8")
    return pixels


def pixel_statistics(batches: Iterable[Tensor]) -> PixelStatistics:
    """Mean and standard deviation of every pixel, in one pass; sums are exact.

    The standard deviation of a pixel that never changes is 0: :meth:`PixelStatistics.with_floor`.

    Args:
        batches: images, each ``(batch, channels, height, width)`` uint8.

    Raises:
        ValueError: there are no images.
    """
    count, total, squares = 0, None, None
    for batch in batches:
        if total is None or squares is None:
            total = torch.zeros(batch.shape[1:], dtype=torch.float64)
            squares = torch.zeros_like(total)
        for chunk in batch.split(_EXACT):
            values = chunk.float()
            total += values.sum(dim=0)
            squares += values.square_().sum(dim=0)
        count += len(batch)
    if total is None or squares is None:
        raise ValueError("there are no images to take statistics of")
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return PixelStatistics((mean / 255).float(), (variance.sqrt() / 255).float())
