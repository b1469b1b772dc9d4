"""RandomResizedCrop and horizontal flip for a whole batch at once.

Crop boxes have torchvision's distribution, and the resampling equals torchvision's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pmae.basis.exact import ieee_fp32
from pmae.data.transforms.resample import resized_crop, resized_crop_of_numbers
from pmae.runtime.transfer import to_device
from pmae.spec import AugmentationSpec

_TRIES = 10
"""Boxes drawn for an image before the fallback, as in torchvision's RandomResizedCrop."""
_CPU_CHUNK_VALUES = 1 << 19
"""Values to process at once on a CPU. More would exceed the processor's cache, and the allocator
would return the intermediate results to the system, to be zeroed again at each step."""


@dataclass(frozen=True)
class AugmentationDraw:
    """Random crops and flips of the images of a batch.

    Attributes:
        boxes: ``(batch, 4)`` int64: top, left, height, width in pixels; None: no crop.
        mirrored: ``(batch,)`` bool; None: no flip.
    """

    boxes: Tensor | None
    mirrored: Tensor | None

    def part(self, rows: slice) -> AugmentationDraw:
        """Select the draw of some images of the batch."""
        return AugmentationDraw(
            None if self.boxes is None else self.boxes[rows],
            None if self.mirrored is None else self.mirrored[rows],
        )

    def apply(self, images: Tensor) -> Tensor:
        """Crop, scale back and flip.

        Args:
            images: ``(batch, channels, height, width)`` uint8, on any device.

        Returns:
            The same shape, float32 with values in [0, 1].
        """
        rows = len(images)
        if images.device.type == "cpu":
            rows = max(1, _CPU_CHUNK_VALUES // images[0].numel())
        if len(images) <= rows:
            return _augmented(images, self)
        pixels = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        for start in range(0, len(images), rows):
            chunk = slice(start, start + rows)
            pixels[chunk] = _augmented(images[chunk], self.part(chunk))
        return pixels

    def apply_to_object_masks(self, masks: Tensor) -> Tensor:
        """Crop, scale back and flip object masks like the images, by the nearest pixel.

        Args:
            masks: ``(batch, height, width)`` uint8 object numbers, on any device.

        Returns:
            The same shape and type.
        """
        if self.boxes is not None:
            return resized_crop_of_numbers(masks, self.boxes, mirrored=self.mirrored)
        if self.mirrored is None:
            return masks
        return torch.where(self.mirrored.to(masks.device)[:, None, None], masks.flip(2), masks)


def _augmented(images: Tensor, draw: AugmentationDraw) -> Tensor:
    pixels = images.to(torch.float32)
    if draw.boxes is not None:
        boxes = to_device(draw.boxes, images.device)
        with ieee_fp32(images.device):
            pixels = resized_crop(pixels, boxes, mirrored=draw.mirrored).clamp_(0, 255)
    elif draw.mirrored is not None:
        mirrored = to_device(draw.mirrored, images.device)[:, None, None, None]
        pixels = torch.where(mirrored, pixels.flip(3), pixels)
    return pixels.div_(255)


def draw_augmentation(
    batch: int, height: int, width: int, spec: AugmentationSpec, generator: torch.Generator
) -> AugmentationDraw:
    """Draw crops and flips for the images of a batch.

    Args:
        batch: number of images.
        height: of the images in pixels.
        width: of the images in pixels.
        spec: resolved.
        generator: on the CPU.
    """
    boxes = mirrored = None
    if spec.crop_scale != (1.0, 1.0):
        boxes = sample_crops(batch, height, width, spec.crop_scale, spec.crop_ratio, generator)
    if spec.horizontal_flip:
        mirrored = torch.rand(batch, generator=generator) < 0.5
    return AugmentationDraw(boxes, mirrored)


def augment(images: Tensor, spec: AugmentationSpec, generator: torch.Generator) -> Tensor:
    """Crop, scale back and flip each image by its own draw.

    Args:
        images: ``(batch, channels, height, width)`` uint8, on any device.
        spec: resolved.
        generator: on the CPU.

    Returns:
        ``(batch, channels, height, width)`` float32 with values in [0, 1].
    """
    batch, _, height, width = images.shape
    return draw_augmentation(batch, height, width, spec, generator).apply(images)


def sample_crops(
    batch: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Draw crop boxes as torchvision's RandomResizedCrop does.

    A box has an area drawn uniformly from ``scale`` (a fraction of the image's area) and a log
    aspect ratio drawn uniformly from ``log(ratio)``. The first of ten draws that fits into the
    image is used, or else the largest centred box of an allowed aspect ratio.

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
