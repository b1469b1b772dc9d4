"""PMAE's strategies: which principal components are masked (arXiv 2502.06314, section 3.2).

A ratio is a fraction of the total variance, or of the number of components. Each strategy orders
the components and masks the first ones. Of a fraction of the variance, the rule ``nearest`` masks
the number of them that comes nearest to the ratio, and ``reference`` one fewer, at least 1
(``docs/masking.md``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pmae.masking.order import CHUNK_VALUES, mask_first, random_order
from pmae.masking.ratios import draw_ratios, num_masked_for_ratio, num_masked_of
from pmae.spec.parts.masking import Count, MaskingSpec

_TOLERANCE = 1e-9
"""Rounding error to allow when a sum of variance ratios is compared with a ratio."""


def draw_component_masks(
    explained_variance_ratio: Tensor, masking: MaskingSpec, generator: torch.Generator, batch: int
) -> tuple[Tensor, Tensor]:
    """Draw the masks of a batch by any strategy.

    Args:
        explained_variance_ratio: ``(num_components,)`` float64, descending.
        masking: resolved.
        generator: on the CPU.
        batch: number of images.

    Returns:
        The masks, bool ``(num_components,)`` for the whole batch or ``(batch, num_components)``,
        by ``masking.scope``; and the requested ratios, ``(1,)`` or ``(batch,)`` float64.
    """
    variance, per_image, count = explained_variance_ratio, masking.scope == "image", masking.count
    assert count or masking.ratio_of == "components", "the masking is not resolved"
    low, high = masking.ratio_range
    ratios = draw_ratios((low, high), batch if per_image and low < high else 1, generator)
    if masking.strategy == "top":
        masked = top_component_mask(variance, ratios, count=count)
    elif masking.strategy == "bottom":
        masked = bottom_component_mask(variance, ratios, count=count)
    else:
        draw = random_component_mask if masking.strategy == "random" else block_component_mask
        masked = draw(variance, ratios, generator, count=count, batch=batch if per_image else 1)
    return masked if per_image else masked[0], ratios


def random_component_mask(
    explained_variance_ratio: Tensor,
    ratio: float | Tensor,
    generator: torch.Generator,
    *,
    count: Count | None,
    batch: int | None = None,
) -> Tensor:
    """Mask components drawn uniformly until they make up the fraction ``ratio``.

    The reference's ``pc`` masking; with a drawn ratio its ``sampling_pc``, and with a fraction of
    the number of components its ``sampling_ratio``.

    Args:
        explained_variance_ratio: ``(num_components,)`` float64.
        ratio: fraction to mask; a number, ``(1,)``, or ``(batch,)``.
        generator: on the CPU.
        count: the rule that turns a fraction of the variance into a number of components. None:
            ``ratio`` is a fraction of their number.
        batch: number of masks to draw, one for each image; default: one mask for all.

    Returns:
        bool ``(num_components,)``, or ``(batch, num_components)``; True = masked.
    """
    num_components = _num_components(explained_variance_ratio)
    rows = 1 if batch is None else batch
    wanted = torch.as_tensor(ratio, dtype=torch.float64).expand(rows)
    masked = torch.empty(rows, num_components, dtype=torch.bool)
    chunk_rows = max(1, CHUNK_VALUES // num_components)
    for some, out in zip(wanted.split(chunk_rows), masked.split(chunk_rows), strict=True):
        order = random_order(len(some), num_components, generator)
        shares = explained_variance_ratio.index_select(0, order.flatten()).view_as(order)
        out.copy_(mask_first(order, num_masked_for_ratio(shares, some, count)))
    return masked[0] if batch is None else masked


def top_component_mask(
    explained_variance_ratio: Tensor, ratio: float | Tensor, *, count: Count | None
) -> Tensor:
    """Mask the components of largest variance that make up the fraction ``ratio`` (``bvt``).

    Args:
        explained_variance_ratio: ``(num_components,)`` float64, descending.
        ratio: fraction to mask; a number, or ``(rows,)``.
        count: as in :func:`random_component_mask`.

    Returns:
        bool ``(num_components,)``, or ``(rows, num_components)``; True = masked.
    """
    num_components = _num_components(explained_variance_ratio)
    counts = num_masked_for_ratio(explained_variance_ratio, ratio, count)
    return torch.arange(num_components) < counts[..., None]


def bottom_component_mask(
    explained_variance_ratio: Tensor, ratio: float | Tensor, *, count: Count | None
) -> Tensor:
    """Mask the components of smallest variance that make up the fraction ``ratio`` (``tvb``).

    Arguments and result as in :func:`top_component_mask`.
    """
    return top_component_mask(explained_variance_ratio.flip(0), ratio, count=count).flip(-1)


def block_component_mask(
    explained_variance_ratio: Tensor,
    ratio: float | Tensor,
    generator: torch.Generator,
    *,
    count: Count | None,
    batch: int | None = None,
) -> Tensor:
    """Mask a contiguous block of the spectrum.

    Its first component is drawn uniformly from those that, together with all after them, make up
    at least ``ratio``; component 0 is always among them. The rule ``count`` gives its length.

    Arguments and result as in :func:`random_component_mask`.
    """
    num_components = _num_components(explained_variance_ratio)
    rows = 1 if batch is None else batch
    wanted = torch.as_tensor(ratio, dtype=torch.float64).expand(rows)
    component = torch.arange(num_components)
    if count is None:
        length = num_masked_of(num_components, wanted)[:, None]
        noise = torch.rand(rows, 1, generator=generator, dtype=torch.float64)
        first = (noise * (num_components - length + 1)).long()
        masked = (component >= first) & (component < first + length)
        return masked[0] if batch is None else masked
    from_here_on = explained_variance_ratio.flip(0).cumsum(dim=0).flip(0)
    starts = (from_here_on >= wanted[:, None] - _TOLERANCE).sum(dim=1).clamp(min=1)
    noise = torch.rand(rows, generator=generator, dtype=torch.float64)
    first = (noise * starts).long()[:, None]

    until = explained_variance_ratio.cumsum(dim=0)
    before = (until - explained_variance_ratio)[first]
    miss = (until - before - wanted[:, None]).abs()
    everything = (first == 0) & (component == num_components - 1)
    miss = miss.masked_fill((component < first) | everything, torch.inf)
    last = miss.argmin(dim=1, keepdim=True)
    if count == "reference":
        last = torch.maximum(last - 1, first)
    masked = (component >= first) & (component <= last)
    return masked[0] if batch is None else masked


def _num_components(explained_variance_ratio: Tensor) -> int:
    num_components = len(explained_variance_ratio)
    if num_components < 2:
        raise ValueError("masking needs at least 2 components: one to mask, one to show")
    return num_components
