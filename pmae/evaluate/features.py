"""Features of whole images from a frozen encoder.

An image's feature is its CLS token or the mean of its patch tokens, after the encoder's last norm.
Features of an earlier block go through the same norm.
:meth:`pmae.inference.model.LoadedModel.encode` gives the same features, in fp32.

The encoder's products may be in bf16; the last norm's output is converted to float32 before patches
are averaged, so that only the encoder rounds the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pmae.data.images import Split
from pmae.data.transforms.standardize import PixelStatistics
from pmae.models.autoencoder import Encoder
from pmae.spec.parts.evaluation import Layers, Pooling
from pmae.training.environment import Precision, autocast

_BATCH = 256
_STD_FLOOR = 1e-6
FeatureKind = Pooling | Literal["tokens"]
"""Representation of an image: the CLS token, the mean of the patch tokens, or all tokens."""


@dataclass(frozen=True)
class Features:
    """Features and classes of one split.

    Attributes:
        values: ``(layers, n, dim)`` float32 on the CPU.
        labels: ``(n,)`` int64 classes, or ``(n, k)`` int64 of 0 and 1.
    """

    values: Tensor
    labels: Tensor


def pooled(tokens: Tensor, features: FeatureKind) -> Tensor:
    """Reduce an image's tokens to its feature.

    Args:
        tokens: ``(batch, 1 + num_patches, dim)`` after the norm, the CLS token first.
        features: ``cls``, ``mean`` (of the patch tokens, without CLS), or ``tokens`` (all).

    Returns:
        ``(batch, dim)``, or the shape of ``tokens``; float32.
    """
    tokens = tokens.float()
    if features == "tokens":
        return tokens
    return tokens[:, 0] if features == "cls" else tokens[:, 1:].mean(dim=1)


def encode(
    encoder: Encoder,
    images: Tensor,
    pooling: Pooling,
    layers: Layers,
    precision: Precision = "fp32",
) -> Tensor:
    """Compute the features of images after the last block, or after every block in one pass.

    Args:
        encoder: of ``depth`` blocks.
        images: ``(batch, channels, height, width)``, standardised, on the encoder's device.
        pooling: representation of an image.
        layers: ``last`` or ``all``.
        precision: of the encoder's products.

    Returns:
        float32 ``(1, batch, dim)``, or ``(depth, batch, dim)`` with the last block's last.
    """
    depth = len(encoder.blocks)
    blocks = range(depth) if layers == "all" else (depth - 1,)
    with autocast(precision, images.device):
        return torch.stack(encode_blocks(encoder, images, pooling, blocks))


def encode_blocks(
    encoder: Encoder, images: Tensor, features: FeatureKind, blocks: Sequence[int]
) -> list[Tensor]:
    """Compute the features of images after chosen blocks, in one pass.

    Args:
        encoder: of ``depth`` blocks.
        images: ``(batch, channels, height, width)``, standardised, on the encoder's device.
        features: representation of an image.
        blocks: ascending indices from 0 to ``depth - 1``.

    Returns:
        For each of ``blocks`` ``(batch, dim)``, or ``(batch, 1 + num_patches, dim)`` for
        ``tokens``.
    """
    if list(blocks) == [len(encoder.blocks) - 1]:
        return [pooled(encoder(images), features)]
    found: list[Tensor] = []

    def keep(_block: nn.Module, _inputs: object, tokens: Tensor) -> None:
        found.append(pooled(encoder.norm(tokens), features))

    with ExitStack() as handles:
        for block in blocks:
            handles.enter_context(encoder.blocks[block].register_forward_hook(keep))
        encoder(images)
    return found


@contextmanager
def frozen(encoder: Encoder) -> Iterator[None]:
    """Put the encoder into evaluation mode without gradients; restore its mode afterwards."""
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        encoder.train(training)


def extract(
    encoder: Encoder,
    split: Split,
    statistics: PixelStatistics,
    pooling: Pooling,
    layers: Layers,
    precision: Precision = "fp32",
) -> Features:
    """Compute the features of every image of a split, without augmentation.

    Args:
        encoder: not changed; its mode (train or eval) is restored.
        split: the images.
        statistics: on the CPU.
        pooling: representation of an image.
        layers: ``last``, or ``all`` for ``depth`` times the memory.
        precision: of the encoder's products.
    """
    device = encoder.cls_token.device
    statistics = statistics.to(device)
    depth = len(encoder.blocks) if layers == "all" else 1
    values = torch.empty(depth, len(split), encoder.embed_dim)
    done = 0
    with frozen(encoder):
        for batch in split.in_order(_BATCH):
            images = statistics.standardize(batch.to(device).images / 255)
            rows = slice(done, done + len(images))
            values[:, rows] = encode(encoder, images, pooling, layers, precision).cpu()
            done = rows.stop
    return Features(values, split.labels)


def raw_pixels(split: Split) -> Features:
    """Use the pixels as features: ``(1, n, num_pixels)`` in [0, 1]."""
    values = torch.cat([b.images.flatten(1).float() / 255 for b in split.in_order(_BATCH)])
    return Features(values[None], split.labels)


def standardization(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature: ``(layers, n, dim)`` to ``(layers, 1, dim)``."""
    std = values.std(dim=1, keepdim=True).clamp(min=_STD_FLOOR)
    return values.mean(dim=1, keepdim=True), std
