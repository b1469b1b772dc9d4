"""Attention maps of one block of a ViT, per head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from pmae.errors import SpecError
from pmae.evaluate.features import frozen
from pmae.inference.pictures import intensity, sheet_png
from pmae.models.autoencoder import Encoder


@dataclass(frozen=True)
class AttentionMaps:
    """Attention to the patches, each ``(n, heads, grid, grid)`` float32 on the CPU.

    Attributes:
        cls_row: of the CLS token; a map sums to 1 minus the token's attention to itself.
        spatial_mean: of the patches, averaged over them.
    """

    cls_row: Tensor
    spatial_mean: Tensor


def attention(encoder: Encoder, images: Tensor, block: int = -1) -> Tensor:
    """Compute the attention weights of a block.

    Args:
        encoder: not changed.
        images: ``(n, channels, height, width)``, standardised, on the encoder's device.
        block: from 0, or from the end with -1.

    Returns:
        ``(n, heads, tokens, tokens)`` float32, the CLS token first; each row (a query) sums to 1.

    Raises:
        SpecError: there is no such block.
    """
    depth = len(encoder.blocks)
    if not -depth <= block < depth:
        raise SpecError(f"there is no block {block}; expected {-depth} to {depth - 1}")
    found: list[Tensor] = []
    layer = encoder.blocks[block].attn
    assert isinstance(layer, nn.Module)

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(_weights(layer, inputs[0]))

    handle = layer.register_forward_pre_hook(keep)
    try:
        with frozen(encoder):
            encoder(images)
    finally:
        handle.remove()
    return found[0]


def _weights(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Compute ``softmax(q k^T / sqrt(head_dim))``, which the fused kernel does not return."""
    batch, length, width = tokens.shape
    heads: int = layer.num_heads  # type: ignore[assignment]
    projected: Tensor = layer.qkv(tokens)  # type: ignore[operator]
    shaped = projected.view(batch, length, 3, heads, width // heads)
    query, key, _ = shaped.permute(2, 0, 3, 1, 4).unbind()
    scores: Tensor = query @ key.transpose(-2, -1) * (width // heads) ** -0.5
    return scores.softmax(dim=-1)


def attention_maps(encoder: Encoder, images: Tensor, block: int = -1) -> AttentionMaps:
    """Average :func:`attention` into maps: the CLS token's row, and the mean of the patches'."""
    weights = attention(encoder, images, block).float().cpu()
    grid = round((weights.shape[-1] - 1) ** 0.5)
    return AttentionMaps(
        cls_row=weights[:, :, 0, 1:].unflatten(2, (grid, grid)),
        spatial_mean=weights[:, :, 1:, 1:].mean(dim=2).unflatten(2, (grid, grid)),
    )


def attention_png(pixels: Tensor, maps: AttentionMaps, head: int | None = None) -> bytes:
    """Draw images beside their maps as one PNG; each map is scaled to its own maximum.

    Args:
        pixels: ``(n, channels, height, width)`` in [0, 1].
        maps: of these images.
        head: from 0; None: the mean over the heads.

    Raises:
        SpecError: there is no such head.
    """
    heads = maps.cls_row.shape[1]
    if head is not None and not 0 <= head < heads:
        raise SpecError(f"there is no head {head}; expected 0 to {heads - 1}, or none for all")
    panels = {"image": intensity(pixels.numpy())}
    for name, values in (("CLS row", maps.cls_row), ("patches' mean", maps.spatial_mean)):
        chosen = values.mean(dim=1) if head is None else values[:, head]
        panels[name] = _picture(chosen.numpy())
    return sheet_png(panels)


def _picture(maps: np.ndarray) -> np.ndarray:
    largest = np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    return intensity((maps / largest)[:, None])
