"""MAE's masks: which patches are masked, and which the encoder is given."""

from __future__ import annotations

import torch
from torch import Tensor

from pmae.masking.order import mask_first, random_order


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
    """The indices of the visible patches where images may have different numbers of them.

    How many there are decides the shapes, so on a GPU this waits for the mask.

    Args:
        masked: bool ``(batch, num_patches)``; best on the CPU, where masks are drawn.

    Returns:
        int64 ``(batch, num_visible)``, ascending, as many as the image with the most has; the rows
        of others are filled up with masked patches of theirs. And which entries are such padding:
        bool ``(batch, num_visible)``, or None where there is none.
    """
    counts = (~masked).sum(dim=1)
    fewest, most = torch.stack(counts.aminmax()).tolist()
    if fewest == most:
        return visible_indices(masked), None
    # Stable: each row's visible patches first, ascending, then its masked ones.
    visible = torch.argsort(masked.to(torch.uint8), dim=1, stable=True)[:, :most]
    return visible, torch.arange(most, device=masked.device) >= counts[:, None]
