"""What is hidden from the encoder. In every mask True means masked (hidden).

Masks are drawn on the CPU, so that every device sees the same.
"""

from __future__ import annotations

import torch
from torch import Tensor


def draw_ratio(ratio_range: tuple[float, float], generator: torch.Generator) -> float:
    """A ratio drawn uniformly from ``(low, high)``; a fixed one is ``low == high``."""
    low, high = ratio_range
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def num_masked_for_ratio(shuffled_ratios: Tensor, ratio: float) -> Tensor:
    """How many of the shuffled components to mask so that their variance comes nearest to a share.

    Args:
        shuffled_ratios: ``(..., num_components)`` float64, explained variance ratios in the order
            in which the components will be masked.
        ratio: the share of the total variance to mask, above 0 and below 1.

    Returns:
        ``(...)`` int64 between 1 and ``num_components - 1``. Of two counts that come equally near,
        the smaller.
    """
    masked_share = shuffled_ratios.cumsum(dim=-1)[..., :-1]
    return (masked_share - ratio).abs().argmin(dim=-1) + 1


def random_component_mask(
    explained_variance_ratio: Tensor,
    ratio: float,
    generator: torch.Generator,
    *,
    batch: int | None = None,
) -> Tensor:
    """Components drawn uniformly until the share of variance they hold is nearest to ``ratio``.

    PMAE's ``pc`` masking (arXiv 2502.06314, section 3.2). A ratio is missed by what one component
    holds.

    Args:
        explained_variance_ratio: ``(num_components,)`` float64.
        ratio: share of the total variance to mask.
        generator: on the CPU.
        batch: draw a mask for each of so many images; default: one mask.

    Returns:
        bool ``(num_components,)``, or ``(batch, num_components)``.
    """
    num_components = len(explained_variance_ratio)
    if num_components < 2:
        raise ValueError("masking needs at least 2 components: one to mask, one to show")
    rows = 1 if batch is None else batch
    noise = torch.rand(rows, num_components, generator=generator, dtype=torch.float64)
    order = noise.argsort(dim=1)
    counts = num_masked_for_ratio(explained_variance_ratio[order], ratio)
    rank = order.argsort(dim=1)
    masked = rank < counts[:, None]
    return masked[0] if batch is None else masked


def masked_variance(explained_variance_ratio: Tensor, masked: Tensor) -> float:
    """The share of variance that a mask really hides, averaged over the images."""
    return float((explained_variance_ratio * masked).sum(dim=-1).mean())


def random_patch_mask(
    batch: int, num_patches: int, ratio: float, generator: torch.Generator
) -> Tensor:
    """Patches drawn uniformly for each image (MAE, arXiv 2111.06377, section 3).

    Every image keeps ``int(num_patches * (1 - ratio))`` patches, at least 1 and not all, so that
    the visible ones make a rectangular tensor.

    Returns:
        bool ``(batch, num_patches)``.
    """
    if num_patches < 2:
        raise ValueError("masking needs at least 2 patches: one to mask, one to show")
    # 1 - 0.9 is a little less than 0.1, and int() would lose a patch of 10 for it.
    num_visible = min(max(int(num_patches * (1 - ratio) + 1e-9), 1), num_patches - 1)
    noise = torch.rand(batch, num_patches, generator=generator, dtype=torch.float64)
    rank = noise.argsort(dim=1).argsort(dim=1)
    return rank >= num_visible


def visible_indices(masked: Tensor) -> Tensor:
    """The indices of the visible patches, ascending.

    Args:
        masked: bool ``(batch, num_patches)`` with the same number of True in every row.

    Returns:
        int64 ``(batch, num_visible)``.
    """
    num_visible = int((~masked[0]).sum())
    return torch.argsort(masked.to(torch.uint8), dim=1, stable=True)[:, :num_visible]
