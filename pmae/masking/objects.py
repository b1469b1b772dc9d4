"""MAE's masks from object segmentations (arXiv 2502.06314, CLEVR).

Two experiments (``docs/masking.md``): :func:`background_patch_mask` shows patches of objects and
masks the rest, as the paper's public code does; :func:`object_patch_mask` masks patches of one
object. A patch belongs to an object if any of its pixels shows it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pmae.masking.ratios import draw_ratios
from pmae.models.patches import patchify
from pmae.spec.parts.masking import MaskingSpec, SegmentationMode

_NUM_OBJECTS = 256
"""Values that a pixel of an object mask can have, including 0 for no object."""


def objects_in_patches(object_masks: Tensor, patch_size: int) -> Tensor:
    """Find the objects that each patch shows.

    Args:
        object_masks: ``(batch, height, width)`` uint8, the number of the object that a pixel
            shows, 0 for none; on any device.
        patch_size: edge length of a patch in pixels.

    Returns:
        bool ``(batch, num_patches, 255)``; object ``n`` of the mask is at index ``n - 1``.
    """
    numbers = patchify(object_masks[:, None], patch_size)
    shown = torch.zeros(*numbers.shape[:2], _NUM_OBJECTS, dtype=torch.bool, device=numbers.device)
    return shown.scatter_(2, numbers.long(), value=True)[:, :, 1:]


def draw_object_masks(
    shown: Tensor, masking: MaskingSpec, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the masks of a batch by its objects, according to ``masking.predict`` and ``mode``.

    Args:
        shown: bool ``(batch, num_patches, num_objects)``, on the CPU.
        masking: resolved, with strategy segmentation.
        generator: on the CPU.

    Returns:
        The masks, bool ``(batch, num_patches)``, and the requested ratios, ``(batch,)`` float64;
        for a mode without a ratio ``(1,)``, which is not used.
    """
    assert masking.mode
    assert masking.predict, "the masking is not resolved"
    ratios = torch.ones(1, dtype=torch.float64)
    if masking.ratio is not None:
        ratios = draw_ratios(masking.ratio_range, len(shown), generator)
    draw = object_patch_mask if masking.predict == "object" else background_patch_mask
    return draw(shown, masking.mode, ratios, generator), ratios


def object_patch_mask(
    shown: Tensor,
    mode: SegmentationMode,
    ratio: float | Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Mask patches of one object of each image, drawn uniformly from those that it shows.

    Of the object's ``n`` patches ``complete`` masks all, and ``partial`` masks ``ratio * n``
    rounded to the nearest number (halves down), drawn uniformly; ``random`` masks ``n`` patches
    drawn uniformly from the whole image. At least 1 patch is masked and at least 1 is visible: an
    image that shows no object gets 1 masked patch, drawn uniformly.

    Args:
        shown: bool ``(batch, num_patches, num_objects)``, on the CPU.
        mode: ``complete``, ``partial`` or ``random``.
        ratio: fraction of the object's patches; a number, or ``(batch,)``. Only for ``partial``.
        generator: on the CPU.

    Returns:
        bool ``(batch, num_patches)``, True = masked; the number of True may differ between rows.
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
    # Noise is below 1, so the object's patches come before all others.
    order = patch_noise if mode == "random" else patch_noise + (~covered).double()
    rank = order.argsort(dim=1).argsort(dim=1)
    return rank < counts[:, None]


def background_patch_mask(
    shown: Tensor,
    mode: SegmentationMode,
    ratio: float | Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Mask every patch that shows no object, and some or none of the ``n`` patches that do.

    ``complete`` leaves all ``n`` visible. ``partial`` and ``random`` also mask ``ratio * n`` of
    them, rounded to the nearest number (halves down; at most ``n - 1``) and drawn uniformly.
    ``partial`` leaves one uniformly drawn patch of each object visible; ``random`` may hide an
    object entirely. At least 1 patch is masked and at least 1 is visible: an image without an
    object shows 1 patch, an image full of objects masks 1, drawn uniformly.

    Args:
        shown: bool ``(batch, num_patches, num_objects)``, on the CPU.
        mode: ``complete``, ``partial`` or ``random``.
        ratio: fraction of the objects' patches; a number, or ``(batch,)``. Not used by
            ``complete``.
        generator: on the CPU.

    Returns:
        bool ``(batch, num_patches)``, True = masked; the number of True may differ between rows.
    """
    batch, num_patches, _ = shown.shape
    if num_patches < 2:
        raise ValueError("masking needs at least 2 patches: one to mask, one to show")
    noise = torch.rand(batch, num_patches, generator=generator, dtype=torch.float64)
    of_objects = shown.any(dim=2)
    masked = ~of_objects
    if mode != "complete":
        spared = _one_of_each(shown, noise) if mode == "partial" else torch.zeros_like(masked)
        free = of_objects & ~spared
        counts = of_objects.sum(dim=1)
        wanted = torch.ceil(counts * torch.as_tensor(ratio, dtype=torch.float64) - 0.5).long()
        wanted = wanted.clamp(max=(counts - 1).clamp(min=0)).clamp(max=free.sum(dim=1))
        # Noise is below 1, so the patches that may be masked come before all others.
        rank = (noise + (~free).double()).argsort(dim=1).argsort(dim=1)
        masked |= rank < wanted[:, None]
    patch = torch.arange(num_patches)
    last, first = noise.argmax(dim=1, keepdim=True), noise.argmin(dim=1, keepdim=True)
    masked &= ~((patch == last) & masked.all(dim=1, keepdim=True))
    masked |= (patch == first) & ~masked.any(dim=1, keepdim=True)
    return masked


def _one_of_each(shown: Tensor, noise: Tensor) -> Tensor:
    """Each object's patch with the largest noise: bool ``(batch, num_patches)``."""
    objects = shown[:, :, shown.any(dim=1).any(dim=0)]
    if objects.shape[2] == 0:
        return torch.zeros_like(noise, dtype=torch.bool)
    best = noise[:, :, None].where(objects, -1.0).argmax(dim=1, keepdim=True)
    chosen = torch.zeros_like(objects).scatter_(1, best, value=True)
    return (chosen & objects).any(dim=2)
