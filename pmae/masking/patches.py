"""MAE's patch masks, and the indices of the visible patches that the encoder receives."""

from __future__ import annotations

import torch
from torch import Tensor

from pmae.masking.order import mask_first, random_order


def random_patch_mask(
    batch: int, num_patches: int, ratio: float, generator: torch.Generator
) -> Tensor:
    """Mask patches drawn uniformly for each image (MAE, arXiv 2111.06377, section 3).

    Every image keeps ``int(num_patches * (1 - ratio))`` patches, at least 1 and not all, so that
    the visible ones form a rectangular tensor.

    Returns:
        bool ``(batch, num_patches)``, True = masked.
    """
    if num_patches < 2:
        raise ValueError("masking needs at least 2 patches: one to mask, one to show")
    # 1 - 0.9 is slightly below 0.1: without the tolerance int() would mask a patch too many.
    num_visible = min(max(int(num_patches * (1 - ratio) + 1e-9), 1), num_patches - 1)
    order = random_order(batch, num_patches, generator)
    return ~mask_first(order, torch.tensor([num_visible]))


def visible_indices(masked: Tensor) -> Tensor:
    """The indices of the visible patches, ascending.

    Args:
        masked: bool ``(batch, num_patches)`` with the same number of True in every row.

    Returns:
        int64 ``(batch, num_visible)``.
    """
    return (~masked).nonzero()[:, 1].view(len(masked), -1)


def padded_visible_indices(masked: Tensor) -> tuple[Tensor, Tensor | None]:
    """The indices of the visible patches, padded where images differ in their number.

    The shape of the result depends on the mask's values: on a GPU this synchronises.

    Args:
        masked: bool ``(batch, num_patches)``; preferably on the CPU, where masks are drawn.

    Returns:
        The indices, int64 ``(batch, num_visible)``, ascending; ``num_visible`` is the maximum over
        the images, and shorter rows are padded with masked patches of their image. And the padding,
        bool ``(batch, num_visible)``, True = padded, or None if there is none.
    """
    counts = (~masked).sum(dim=1)
    min_visible, max_visible = torch.stack(counts.aminmax()).tolist()
    if min_visible == max_visible:
        return visible_indices(masked), None
    # Stable: each row's visible patches first, ascending, then its masked ones.
    visible = torch.argsort(masked.to(torch.uint8), dim=1, stable=True)[:, :max_visible]
    return visible, torch.arange(max_visible, device=masked.device) >= counts[:, None]
