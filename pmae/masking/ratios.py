"""Mask ratios drawn from a range, and the numbers of components that correspond to them."""

from __future__ import annotations

import torch
from torch import Tensor

from pmae.spec.parts.masking import Count


def draw_ratios(ratio_range: tuple[float, float], rows: int, generator: torch.Generator) -> Tensor:
    """Draw ratios uniformly from ``(low, high)``; equal ends give a fixed ratio.

    Returns:
        ``(rows,)`` float64.
    """
    low, high = ratio_range
    return low + (high - low) * torch.rand(rows, generator=generator, dtype=torch.float64)


def num_masked_for_ratio(
    ordered_ratios: Tensor, ratio: float | Tensor, count: Count | None
) -> Tensor:
    """Count the first ordered components that make up the fraction ``ratio``.

    ``nearest`` is the number whose variance comes nearest to the fraction, the smaller of two that
    are equally near. ``reference`` is one fewer, as in the paper's public code
    (``docs/masking.md``).

    Args:
        ordered_ratios: ``(..., num_components)`` float64, explained variance ratios in the order
            in which the components are masked.
        ratio: fraction to mask, above 0 and below 1; a number, or a tensor that broadcasts with
            ``(...)``.
        count: the rule for a fraction of the variance. None: ``ratio`` is a fraction of the number
            of components.

    Returns:
        ``(...)`` int64 between 1 and ``num_components - 1``.
    """
    if count is None:
        counts = num_masked_of(ordered_ratios.shape[-1], ratio)
        return counts.expand(torch.broadcast_shapes(counts.shape, ordered_ratios.shape[:-1]))
    masked_fraction = ordered_ratios.cumsum(dim=-1)[..., :-1]
    wanted = torch.as_tensor(ratio, dtype=torch.float64)[..., None]
    nearest = (masked_fraction - wanted).abs().argmin(dim=-1) + 1
    return nearest if count == "nearest" else (nearest - 1).clamp(min=1)


def num_masked_of(num_components: int, ratio: float | Tensor) -> Tensor:
    """Round ``ratio * num_components`` to the nearest number, halves down.

    Returns:
        int64 of the shape of ``ratio``, between 1 and ``num_components - 1``.
    """
    wanted = num_components * torch.as_tensor(ratio, dtype=torch.float64)
    return torch.ceil(wanted - 0.5).long().clamp(1, num_components - 1)


def masked_variance(explained_variance_ratio: Tensor, masked: Tensor) -> float:
    """The fraction of the variance that a mask hides, averaged over the images."""
    return float((explained_variance_ratio * masked).sum(dim=-1).mean())
