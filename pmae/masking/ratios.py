"""How much is masked: ratios drawn from a range, and how many components meet one."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_ratios(ratio_range: tuple[float, float], rows: int, generator: torch.Generator) -> Tensor:
    """Ratios drawn uniformly from ``(low, high)``; a fixed one is ``low == high``.

    Returns:
        ``(rows,)`` float64.
    """
    low, high = ratio_range
    return low + (high - low) * torch.rand(rows, generator=generator, dtype=torch.float64)


def num_masked_for_ratio(ordered_ratios: Tensor, ratio: float | Tensor) -> Tensor:
    """How many of the ordered components to mask so that their variance comes nearest to a share.

    Args:
        ordered_ratios: ``(..., num_components)`` float64, explained variance ratios in the order
            in which the components will be masked.
        ratio: the share of the total variance to mask, above 0 and below 1; a number, or a tensor
            that broadcasts with ``(...)``.

    Returns:
        ``(...)`` int64 between 1 and ``num_components - 1``. Of two counts that come equally near,
        the smaller.
    """
    masked_share = ordered_ratios.cumsum(dim=-1)[..., :-1]
    wanted = torch.as_tensor(ratio, dtype=torch.float64)[..., None]
    return (masked_share - wanted).abs().argmin(dim=-1) + 1


def masked_variance(explained_variance_ratio: Tensor, masked: Tensor) -> float:
    """The share of variance that a mask really hides, averaged over the images."""
    return float((explained_variance_ratio * masked).sum(dim=-1).mean())
