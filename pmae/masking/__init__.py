"""Masking strategies. In every mask True means masked: hidden from the encoder.

Masks are drawn on the CPU, so that they do not depend on the device. ``docs/masking.md`` defines
each strategy.
"""

from __future__ import annotations

from pmae.masking.chosen import Selection, chosen_mask, selection_of
from pmae.masking.components import (
    block_component_mask,
    bottom_component_mask,
    draw_component_masks,
    random_component_mask,
    top_component_mask,
)
from pmae.masking.objects import (
    background_patch_mask,
    draw_object_masks,
    object_patch_mask,
    objects_in_patches,
)
from pmae.masking.patches import padded_visible_indices, random_patch_mask, visible_indices
from pmae.masking.ratios import draw_ratios, masked_variance, num_masked_for_ratio

__all__ = [
    "Selection",
    "background_patch_mask",
    "block_component_mask",
    "bottom_component_mask",
    "chosen_mask",
    "draw_component_masks",
    "draw_object_masks",
    "draw_ratios",
    "masked_variance",
    "num_masked_for_ratio",
    "object_patch_mask",
    "objects_in_patches",
    "padded_visible_indices",
    "random_component_mask",
    "random_patch_mask",
    "selection_of",
    "top_component_mask",
    "visible_indices",
]
