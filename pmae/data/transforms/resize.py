"""Resize whole images."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

_CHUNK = 1024


def resize(images: Tensor, resolution: int) -> Tensor:
    """Resize with an antialiased bicubic filter; images of that resolution are returned unchanged.

    Args:
        images: ``(n, channels, height, width)`` uint8.
        resolution: edge length in pixels.

    Returns:
        ``(n, channels, resolution, resolution)`` uint8.
    """
    if images.shape[-2:] == (resolution, resolution):
        return images
    if len(images) == 0:
        return images.new_empty(0, images.shape[1], resolution, resolution)
    size = [resolution, resolution]
    return torch.cat(
        [
            transforms.resize(chunk, size, InterpolationMode.BICUBIC, antialias=True)
            for chunk in images.split(_CHUNK)
        ]
    )
