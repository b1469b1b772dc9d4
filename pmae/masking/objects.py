"""MAE's masks from object segmentations (arXiv 2502.06314, CLEVR).

A patch is of an object if any of its pixels shows it, so that a complete mask leaves nothing of the
object in sight.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pmae.patches import patchify

_NUM_OBJECTS = 256
"""Values of an object mask, 0 (no object) among them."""


def objects_in_patches(object_masks: Tensor, patch_size: int) -> Tensor:
    """Which objects each patch shows.

    Args:
        object_masks: ``(batch, height, width)`` uint8, which object a pixel shows, 0 for none; on
            any device.
        patch_size: edge length of a patch in pixels.

    Returns:
        bool ``(batch, num_patches, 255)``: object ``n`` of the mask stands at ``n - 1``.
    """
    numbers = patchify(object_masks[:, None], patch_size)
    shown = torch.zeros(*numbers.shape[:2], _NUM_OBJECTS, dtype=torch.bool, device=numbers.device)
    return shown.scatter_(2, numbers.long(), value=True)[:, :, 1:]


def object_patch_mask(
    shown: Tensor,
    mode: Literal["complete", "partial", "random"],
    ratio: float | Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Mask patches of one object of each image, drawn uniformly from those in sight.

    With ``n`` the patches of that object: ``complete`` masks all ``n``, ``partial`` the number of
    them that is nearest to ``ratio * n`` (of two, the smaller), drawn uniformly, and ``random``
    ``n`` of the image's patches, drawn uniformly. At least 1 patch is masked and at least 1 is not:
    an image without an object in sight gets 1 masked patch, drawn uniformly from all.

    Args:
        shown: bool ``(batch, num_patches, num_objects)``, on the CPU.
        mode: as above.
        ratio: share of the object's patches; a number, or ``(batch,)``. Only ``partial`` reads it.
        generator: on the CPU.

    Returns:
        bool ``(batch, num_patches)``; rows may differ in their number of True.
    """
    batch, num_patches, num_objects = shown.shape
    if num_patches < 2:
        raise ValueError("masking needs at least 2 patches: one to mask, one to show")
    object_noise = torch.rand(batch, num_objects, generator=generator, dtype=torch.float64)
    patch_noise = torch.rand(batch, num_patches, generator=generator, dtype=torch.float64)
    in_sight = shown.any(dim=1)
    drawn = object_noise.masked_fill(~in_sight, -1.0).argmax(dim=1)
    covered = shown[torch.arange(batch), :, drawn]
    counts = covered.sum(dim=1)
    if mode == "partial":
        counts = torch.ceil(counts * torch.as_tensor(ratio, dtype=torch.float64) - 0.5).long()
    counts = counts.clamp(1, num_patches - 1)
    # Noise is below 1: the object's patches come before all others.
    order = patch_noise if mode == "random" else patch_noise + (~covered).double()
    rank = order.argsort(dim=1).argsort(dim=1)
    return rank < counts[:, None]
