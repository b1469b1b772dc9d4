"""RandomResizedCrop and horizontal flip for a whole batch at once.

The crop boxes have torchvision's distribution; the resampling is torchvision's antialiased bicubic,
done as two small matrix products for each image instead of one call for each image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pmae.spec import AugmentationSpec

_TRIES = 10
"""Boxes drawn for an image before the fallback, as in torchvision's RandomResizedCrop."""
_BICUBIC_A = -0.5
_BICUBIC_SUPPORT = 2.0


def augment(images: Tensor, spec: AugmentationSpec, generator: torch.Generator) -> Tensor:
    """Crop, resize back and flip each image by its own draw.

    Args:
        images: ``(batch, channels, height, width)`` uint8, on any device.
        spec: resolved.
        generator: on the CPU.

    Returns:
        ``(batch, channels, height, width)`` float32 with values in [0, 1].
    """
    batch, _, height, width = images.shape
    pixels = images.to(torch.float32)
    if spec.crop_scale != (1.0, 1.0):
        boxes = sample_crops(batch, height, width, spec.crop_scale, spec.crop_ratio, generator)
        pixels = resized_crop(pixels, boxes.to(images.device)).clamp_(0, 255)
    if spec.horizontal_flip:
        flipped = torch.rand(batch, generator=generator) < 0.5
        pixels = torch.where(flipped.to(images.device)[:, None, None, None], pixels.flip(3), pixels)
    return pixels / 255


def sample_crops(
    batch: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Draw crop boxes as torchvision's RandomResizedCrop does.

    A box has an area drawn uniformly from ``scale`` (share of the image's area) and a log aspect
    ratio drawn uniformly from ``log(ratio)``; the first of ten draws that fits is taken, else the
    largest centred box of an allowed aspect ratio.

    Returns:
        ``(batch, 4)`` int64: top, left, height, width in pixels.
    """
    draws = torch.rand(4, batch, _TRIES, generator=generator, dtype=torch.float64)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * draws[1])
    box_width = torch.round(torch.sqrt(area * aspect)).long()
    box_height = torch.round(torch.sqrt(area / aspect)).long()
    fits = (box_width > 0) & (box_width <= width) & (box_height > 0) & (box_height <= height)
    top = (draws[2] * (height - box_height + 1)).long()
    left = (draws[3] * (width - box_width + 1)).long()
    candidates = torch.stack([top, left, box_height, box_width], dim=-1)
    first = fits.int().argmax(dim=1)
    boxes = candidates[torch.arange(batch), first]
    fallback = torch.tensor(_central_crop(height, width, ratio))
    return torch.where(fits.any(dim=1)[:, None], boxes, fallback)


def _central_crop(height: int, width: int, ratio: tuple[float, float]) -> list[int]:
    aspect = width / height
    if aspect < ratio[0]:
        box_height, box_width = round(width / ratio[0]), width
    elif aspect > ratio[1]:
        box_height, box_width = height, round(height * ratio[1])
    else:
        box_height, box_width = height, width
    return [(height - box_height) // 2, (width - box_width) // 2, box_height, box_width]


def resized_crop(images: Tensor, boxes: Tensor) -> Tensor:
    """Cut each image to its box and resize it back with an antialiased bicubic filter.

    Equals ``torchvision.transforms.v2.functional.resized_crop`` on float images, image by image.

    Args:
        images: ``(batch, channels, height, width)`` float.
        boxes: ``(batch, 4)`` int64: top, left, height, width, within the image.

    Returns:
        ``(batch, channels, height, width)``; values may overshoot the input's range.
    """
    _, _, height, width = images.shape
    top, left, box_height, box_width = boxes.unbind(dim=1)
    rows = _resampling_matrix(height, top, box_height, images.dtype)
    columns = _resampling_matrix(width, left, box_width, images.dtype)
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)


def _resampling_matrix(size: int, start: Tensor, length: Tensor, dtype: torch.dtype) -> Tensor:
    """``(batch, size, size)``: row i weighs the input pixels of output pixel i.

    The filter stretches with the scale when it shrinks (antialiasing), is cut at the box's edges
    and normalised, as in PIL and torch.
    """
    start, length = start[:, None, None].double(), length[:, None, None].double()
    scale = length / size
    stretch = scale.clamp(min=1.0)
    output = torch.arange(size, device=start.device)[None, :, None]
    pixel = torch.arange(size, device=start.device)[None, None, :] - start
    centre = (output + 0.5) * scale
    first = torch.floor(centre - _BICUBIC_SUPPORT * stretch + 0.5).clamp(min=0)
    last = torch.minimum(torch.floor(centre + _BICUBIC_SUPPORT * stretch + 0.5), length)
    weights = _bicubic((pixel + 0.5 - centre) / stretch)
    weights = weights * ((pixel >= first) & (pixel < last))
    return (weights / weights.sum(dim=2, keepdim=True)).to(dtype)


def _bicubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -1/2."""
    x = x.abs()
    near = ((_BICUBIC_A + 2) * x - (_BICUBIC_A + 3)) * x * x + 1
    far = _BICUBIC_A * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
