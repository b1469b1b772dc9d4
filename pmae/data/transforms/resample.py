"""Crop and resize a whole batch at once with torchvision's antialiased bicubic filter.

Each image becomes ``R X C^T``: ``R`` resamples its rows, and ``C`` resamples its columns and may
mirror them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from pmae.runtime.transfer import to_device

_BICUBIC_SUPPORT = 2.0
"""Half the filter's width, in pixels of the coarser grid."""


def resized_crop(
    images: Tensor, boxes: Tensor, *, size: int | None = None, mirrored: Tensor | None = None
) -> Tensor:
    """Crop each image to its box and resize it with an antialiased bicubic filter.

    Equals ``torchvision.transforms.v2.functional.resized_crop`` of each float image, to 4e-5 of the
    values' range.

    Args:
        images: ``(batch, channels, height, width)`` float.
        boxes: ``(batch, 4)`` int64: top, left, height, width, within the image; on any device.
        size: edge length of the result in pixels; default: height and width of the images.
        mirrored: ``(batch,)`` bool, True = mirror left to right; default: none.

    Returns:
        ``(batch, channels, size, size)``; values may overshoot the input's range.
    """
    batch, channels, height, width = images.shape
    top, left, box_height, box_width = boxes.unbind(dim=1)
    if mirrored is not None:
        mirrored = to_device(mirrored, boxes.device)
    rows = _resampling_matrix(height, size or height, top, box_height).to(images)
    columns = _resampling_matrix(width, size or width, left, box_width, mirrored).to(images)
    wide = images.reshape(batch, channels * height, width)
    narrow = torch.bmm(wide, columns.transpose(1, 2)).view(batch, channels, height, -1)
    return torch.stack([torch.bmm(rows, narrow[:, c]) for c in range(channels)], dim=1)


def resized_crop_of_numbers(
    numbers: Tensor, boxes: Tensor, *, mirrored: Tensor | None = None
) -> Tensor:
    """Crop each image of object numbers to its box and resize it by the nearest pixel.

    Args:
        numbers: ``(batch, height, width)``, any type.
        boxes: as in :func:`resized_crop`.
        mirrored: as in :func:`resized_crop`.

    Returns:
        ``(batch, height, width)`` of the same type.
    """
    batch, height, width = numbers.shape
    top, left, box_height, box_width = boxes.to(numbers.device).unbind(dim=1)
    rows = _nearest(height, top, box_height)
    columns = _nearest(width, left, box_width)
    if mirrored is not None:
        columns = torch.where(mirrored.to(numbers.device)[:, None], columns.flip(1), columns)
    image = torch.arange(batch, device=numbers.device)[:, None, None]
    return numbers[image, rows[:, :, None], columns[:, None, :]]


def _nearest(size: int, start: Tensor, length: Tensor) -> Tensor:
    """The input pixel under the centre of each output pixel: ``(batch, size)`` int64."""
    output = torch.arange(size, device=start.device)
    return start[:, None] + ((2 * output + 1) * length[:, None]) // (2 * size)


def _resampling_matrix(
    size: int, out: int, start: Tensor, length: Tensor, mirrored: Tensor | None = None
) -> Tensor:
    """Weights of the input pixels for each output pixel: ``(batch, out, size)`` float32."""
    first, weights = (
        part.index_select(0, length) for part in _weights_by_length(size, out, start.device)
    )
    first += start[:, None]
    if mirrored is not None:
        flip = mirrored[:, None]
        first = torch.where(flip, first.flip(1), first)
        weights = torch.where(flip[:, :, None], weights.flip(1), weights)
    taps = weights.shape[2]
    columns = first[:, :, None] + torch.arange(taps, device=start.device)
    # Weights outside the box are 0; those outside the image fall into columns that are dropped.
    padded = torch.zeros(len(first), out, size + taps, device=start.device)
    return padded.scatter_(2, columns, weights)[:, :, :size]


@lru_cache(maxsize=16)
def _weights_by_length(size: int, out: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Compute the filter's weights for boxes of each length up to ``size`` that start at 0.

    When shrinking, the filter is stretched by the scale (antialiasing); it is cut off at the box's
    edges and normalised, as in PIL and torch.

    Returns:
        On ``device``: the first input pixel of each output pixel, ``(size + 1, out)`` int64, and
        the weights from there on, ``(size + 1, out, taps)`` float32. Row 0 is never used.
    """
    length = torch.arange(size + 1).clamp(min=1)[:, None].double()
    scale = length / out
    stretch = scale.clamp(min=1.0)
    taps = math.ceil(2 * _BICUBIC_SUPPORT * max(1.0, size / out)) + 1
    centre = (torch.arange(out) + 0.5) * scale
    first = torch.floor(centre - _BICUBIC_SUPPORT * stretch + 0.5).clamp(min=0)
    last = torch.minimum(torch.floor(centre + _BICUBIC_SUPPORT * stretch + 0.5), length)
    pixel = first[:, :, None] + torch.arange(taps)
    weights = _bicubic((pixel + 0.5 - centre[:, :, None]) / stretch[:, :, None])
    weights = weights * (pixel < last[:, :, None])
    weights = weights / weights.sum(dim=2, keepdim=True)
    return first.long().to(device), weights.float().to(device)


def _bicubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -1/2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
