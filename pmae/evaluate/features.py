"""Features of whole images, extracted once and without augmentation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from pmae.data.standardize import PixelStatistics
from pmae.models import Encoder


@torch.no_grad()
def extract_cls(encoder: Encoder, batches: Iterable[Tensor], statistics: PixelStatistics) -> Tensor:
    """The CLS token of every image.

    Args:
        encoder: left in the mode (train or eval) and with the weights it came with.
        batches: images, each ``(batch, channels, height, width)`` uint8.
        statistics: on the encoder's device.

    Returns:
        ``(n, embed_dim)`` float32 on the CPU.
    """
    device = statistics.mean.device
    training = encoder.training
    encoder.eval()
    try:
        rows = [
            encoder(statistics.standardize(chunk.to(device) / 255))[:, 0].float().cpu()
            for chunk in batches
        ]
    finally:
        encoder.train(training)
    return torch.cat(rows)


def raw_pixels(batches: Iterable[Tensor]) -> Tensor:
    """``(batch, channels, height, width)`` uint8 each to ``(n, num_pixels)`` float32 in [0, 1]."""
    return torch.cat([chunk.flatten(1).float() / 255 for chunk in batches])
