"""Passes over any number of images in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pmae.errors import BasisError

_CHUNK_VALUES = 1 << 23
_MIN_ROWS = 256
"""Values in a chunk, and the minimal number of its images: products of fewer rows would spend their
time on reading and writing the sums."""


def chunks(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Regroup the images of ``batches`` into chunks whose size depends on the pixel count alone.

    Results computed from chunks are therefore equal to the bit for any batch size.

    Args:
        batches: images, each ``(batch, ...)`` float32 with the same pixel count.

    Yields:
        ``(rows, num_pixels)`` float32 on the images' device, all but the last of equal size. The
        caller may overwrite a chunk; its memory is reused for the next one.
    """
    buffer, filled = None, 0
    for batch in batches:
        flat = batch.flatten(1)
        if buffer is None:
            rows = max(_MIN_ROWS, _CHUNK_VALUES // max(1, flat.shape[1]))
            buffer = torch.empty(rows, flat.shape[1], device=flat.device)
        start = 0
        while start < len(flat):
            count = min(len(flat) - start, len(buffer) - filled)
            buffer[filled : filled + count] = flat[start : start + count]
            start, filled = start + count, filled + count
            if filled == len(buffer):
                yield buffer
                filled = 0
    if buffer is not None and filled:
        yield buffer[:filled]


@dataclass(frozen=True)
class CoordinateVariances:
    """The variance of the images along some directions.

    Attributes:
        variances: ``(num_coordinates,)`` float64.
        total: summed variance of all pixels.
    """

    variances: Tensor
    total: float


def coordinate_variances(
    batches: Iterable[Tensor], transform: Callable[[Tensor], Tensor]
) -> CoordinateVariances:
    """Measure the variance of each coordinate, and the total of all pixels, in one pass.

    Args:
        batches: as in :func:`chunks`.
        transform: a linear map, ``(rows, num_pixels)`` to ``(rows, num_coordinates)``.

    Raises:
        BasisError: fewer than two images, no variance at all, or values that are not finite.
    """
    count, shift = 0, None
    pixels, coordinates = _Spread(), _Spread()
    for chunk in chunks(batches):
        if shift is None:
            shift = chunk.mean(dim=0)
        count += len(chunk)
        chunk -= shift  # avoids cancellation where the mean is far from zero
        pixels.add(chunk)
        coordinates.add(transform(chunk))
    check_count(count)
    total = float(pixels.variances(count).sum())
    check_total(total)
    return CoordinateVariances(coordinates.variances(count), total)


class _Spread:
    """Column sums and sums of squares, in float64."""

    def __init__(self) -> None:
        self._sums: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, rows: Tensor) -> None:
        self._sums = rows.sum(dim=0, dtype=torch.float64) + self._sums
        self._squares = rows.square().sum(dim=0, dtype=torch.float64) + self._squares

    def variances(self, count: int) -> Tensor:
        means = torch.as_tensor(self._sums) / count
        return (torch.as_tensor(self._squares) / count - means.square()).clamp(min=0)


def check_count(count: int) -> None:
    """Raise BasisError if there are fewer than two images."""
    if count < 2:
        raise BasisError(f"a basis needs at least 2 images, got {count}")


def check_total(total_variance: float) -> None:
    """Raise BasisError if the total variance is 0, NaN or infinite."""
    if not total_variance < float("inf"):
        raise BasisError("the images have pixels that are not finite")
    if not total_variance > 0:
        raise BasisError("all images are the same: there is no variance to split into components")
