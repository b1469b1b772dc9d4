"""How much is masked: ratios drawn from a range, and how many components meet one."""

from __future__ import annotations

import torch
from torch import Tensor

from pmae.spec.parts.masking import Count


def draw_ratios(ratio_range: tuple[float, float], rows: int, generator: torch.Generator) -> Tensor:
    """Ratios drawn uniformly from ``(low, high)``; a fixed one is ``low == high``.

    Returns:
        ``(rows,)`` float64.
    """
    low, high = ratio_range
    return low + (high - low) * torch.rand(rows, generator=generator, dtype=torch.float64)


def num_masked_for_ratio(
    ordered_ratios: Tensor, ratio: float | Tensor, count: Count | None
) -> Tensor:
    """How many of the ordered components to mask so that they make up a share.

    ``nearest`` is the number whose variance comes nearest to the share; of two that come equally
    near, the smaller. ``reference`` is one fewer, as the paper's public code has it
    (``docs/masking.md``).

    Args:
        ordered_ratios: ``(..., num_components)`` float64, explained variance ratios in the order
            in which the components will be masked.
        ratio: the share to mask, above 0 and below 1; a number, or a tensor that broadcasts with
            ``(...)``.
        count: the rule for a share of the variance. None: ``ratio`` is a share of the number of
            components.

    Returns:
        ``(...)`` int64 between 1 and ``num_components - 1``.
    """
    if count is None:
        counts = num_masked_of(ordered_ratios.shape[-1], ratio)
        return counts.expand(torch.broadcast_shapes(counts.shape, ordered_ratios.shape[:-1]))
    masked_share = ordered_ratios.cumsum(dim=-1)[..., :-1]
    wanted = torch.as_tensor(ratio, dtype=torch.float64)[..., None]
    nearest = (masked_share - wanted).abs().argmin(dim=-1) + 1
    return nearest if count == "nearest" else (nearest - 1).clamp(min=1)


def num_masked_of(num_components: int, ratio: float | Tensor) -> Tensor:
    """The number that is nearest to a share of so many components; of two, the smaller.

    Returns:
        int64 of the shape of ``ratio``, between 1 and ``num_components - 1``.
    """
    wanted = num_components * torch.as_tensor(ratio, dtype=torch.float64)
    return torch.ceil(wanted - 0.5).long().clamp(1, num_components - 1)


def masked_variance(explained_variance_ratio: Tensor, masked: Tensor) -> float:
    """The share of variance that a mask really hides, averaged over the images."""
    return float((explained_variance_ratio * masked).sum(dim=-1).mean())
