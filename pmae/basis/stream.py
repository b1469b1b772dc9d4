"""Passes over images of any number, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pmae.errors import BasisError

_CHUNK_VALUES = 1 << 23
_LEAST_ROWS = 256
"""A chunk holds so many values, but at least so many images: a product of fewer rows would spend
its time on reading and writing the sums."""


def chunks(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The images of ``batches`` in chunks of a size that their pixel count alone decides.

    What is computed from chunks is the same to the bit however the images were batched.

    Args:
        batches: images, each ``(batch, ...)`` float32 with the same pixel count.

    Yields:
        ``(rows, num_pixels)`` float32 where the images are, all but the last of equal size. The
        memory is reused for the next chunk; until then it may be written to.
    """
    buffer, filled = None, 0
    for batch in batches:
        flat = batch.flatten(1)
        if buffer is None:
            rows = max(_LEAST_ROWS, _CHUNK_VALUES // max(1, flat.shape[1]))
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
    """How the images spread along some directions.

    Attributes:
        variances: ``(num_coordinates,)`` float64.
        total: the variance over all pixels.
    """

    variances: Tensor
    total: float


def coordinate_variances(
    batches: Iterable[Tensor], transform: Callable[[Tensor], Tensor]
) -> CoordinateVariances:
    """The variance of each coordinate and that of all pixels together, in one pass.

    Args:
        batches: as of :func:`chunks`.
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
        chunk -= shift  # the sums of squares then lose nothing to a mean far from zero
        pixels.add(chunk)
        coordinates.add(transform(chunk))
    check_count(count)
    total = float(pixels.variances(count).sum())
    check_total(total)
    return CoordinateVariances(coordinates.variances(count), total)


class _Spread:
    """Sums and sums of squares of some columns, in float64."""

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
    """Refuse to measure a variance on fewer than two images.

    Raises:
        BasisError: there are fewer.
    """
    if count < 2:
        raise BasisError(f"a basis needs at least 2 images, got {count}")


def check_total(total_variance: float) -> None:
    """Refuse images that do not differ, or pixels that are not finite.

    Raises:
        BasisError: the total variance is 0, NaN or infinite.
    """
    if not total_variance < float("inf"):
        raise BasisError("the images have pixels that are not finite")
    if not total_variance > 0:
        raise BasisError("all images are the same: there is no variance to split into components")
