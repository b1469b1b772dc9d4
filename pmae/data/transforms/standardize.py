"""Per-pixel standardisation: mean and standard deviation over the train set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_EXACT = 256
"""Number of squared bytes whose sum is below 2^24, and so exact in float32."""


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and standard deviation of every pixel.

    Attributes:
        mean: ``(channels, height, width)`` float32, of pixels in [0, 1].
        std: the same shape, not below the floor if there is one.
    """

    mean: Tensor
    std: Tensor

    def standardize(self, pixels: Tensor) -> Tensor:
        """Map pixels ``(batch, channels, height, width)`` in [0, 1] to mean 0 and variance 1."""
        return (pixels - self.mean).div_(self.std)

    def destandardize(self, images: Tensor) -> Tensor:
        """Invert :meth:`standardize`."""
        return images * self.std + self.mean

    def with_floor(self, floor: float) -> PixelStatistics:
        """Raise standard deviations to at least ``floor``, of pixels in [0, 1]."""
        return PixelStatistics(self.mean, self.std.clamp(min=floor))

    def to(self, device: torch.device) -> PixelStatistics:
        """Copy to ``device``."""
        return PixelStatistics(self.mean.to(device), self.std.to(device))


def check_pixels(images: Tensor | np.ndarray, shape: tuple[int, int, int]) -> Tensor:
    """Check the shape, type and range of images.

    Args:
        images: ``(n, channels, height, width)``, uint8, or floats in [0, 1].
        shape: ``(channels, height, width)``.

    Returns:
        The images as a tensor, unchanged.

    Raises:
        ValueError: another shape, type or range.
    """
    pixels = torch.as_tensor(images)
    if pixels.ndim != 4 or tuple(pixels.shape[1:]) != shape:
        raise ValueError(
            f"images of shape {tuple(pixels.shape)}; expected (n, {', '.join(map(str, shape))})"
        )
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise ValueError(f"images of type {pixels.dtype}; expected uint8, or floats in [0, 1]")
    if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError("expected float images in [0, 1], or uint8")
    return pixels


def pixel_statistics(batches: Iterable[Tensor]) -> PixelStatistics:
    """Compute mean and standard deviation of every pixel, in one pass with exact sums.

    A constant pixel has standard deviation 0; see :meth:`PixelStatistics.with_floor`.

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
        raise ValueError("no images to compute statistics of")
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return PixelStatistics((mean / 255).float(), (variance.sqrt() / 255).float())
