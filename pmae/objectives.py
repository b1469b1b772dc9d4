"""What is hidden, what the model sees of it, and what it is asked for: PMAE's and MAE's.

Both objectives have the same methods, so that training, validation and reconstructions need not
know which one they serve. With ``P`` the projection on what is masked, ``hidden_part`` is ``P x``.

A mask may lie on the CPU, where it was drawn, or beside the images. From the CPU no method waits
for the device: what is masked, and how much, is then known before the device is asked for anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.losses import masked_component_loss, masked_patch_loss
from pmae.masking import (
    Selection,
    block_component_mask,
    bottom_component_mask,
    chosen_mask,
    draw_ratios,
    masked_variance,
    object_patch_mask,
    objects_in_patches,
    padded_visible_indices,
    random_component_mask,
    random_patch_mask,
    top_component_mask,
)
from pmae.models import MaskedAutoencoder
from pmae.patches import patchify, pixel_mask
from pmae.spec import ExperimentSpec, MaskingSpec
from pmae.transfer import to_device


class Objective(Protocol):
    """A masked prediction task."""

    @property
    def parts_name(self) -> Literal["components", "patches"]:
        """What is masked."""

    @property
    def num_total(self) -> int:
        """How many components or patches there are to mask."""

    def given(self, selection: Selection, batch: int) -> Draw:
        """Mask exactly what somebody wrote down, in every image.

        Raises:
            SpecError: a selection of what is not there, of nothing or of everything.
        """

    def draw(
        self,
        batch: int,
        masking: MaskingSpec,
        generator: torch.Generator,
        object_masks: Tensor | None = None,
    ) -> Draw:
        """Draw what is masked for a batch, on the CPU.

        Args:
            batch: how many images.
            masking: resolved.
            generator: on the CPU.
            object_masks: ``(batch, height, width)`` uint8, on the CPU; for segmentation only.
        """

    def hidden_part(self, images: Tensor, masked: Tensor) -> Tensor:
        """``P x``: the shape of ``images``, holding only what is masked."""

    def predict(
        self, model: MaskedAutoencoder, images: Tensor, masked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The decoded images and the CLS tokens, from what is visible of ``images``."""

    def loss(self, prediction: Tensor, images: Tensor, masked: Tensor) -> Tensor:
        """The mean squared error over what is masked, a scalar."""

    def mean_squares(self, images: Tensor) -> Tensor:
        """The mean square of each component or patch of each image: ``(batch, num_total)``."""


@dataclass(frozen=True)
class Draw:
    """A drawn mask.

    Attributes:
        masked: bool, True = masked: ``(num_total,)`` for the whole batch or ``(batch, num_total)``.
        ratio: the ratio asked for, averaged over the images; None where none is.
        masked_share: the share really masked, of variance or of patches.
    """

    masked: Tensor
    ratio: float | None
    masked_share: float


@dataclass(frozen=True)
class ComponentObjective:
    """PMAE: predict the masked components of the basis from an image of the others."""

    basis: Basis

    @property
    def parts_name(self) -> Literal["components"]:
        """Components."""
        return "components"

    @property
    def num_total(self) -> int:
        """The number of components."""
        return self.basis.num_components

    def given(self, selection: Selection, batch: int) -> Draw:  # noqa: ARG002
        """One mask for the batch."""
        masked = chosen_mask(selection, self.num_total, what=self.parts_name)
        share = masked_variance(self.basis.explained_variance_ratio, masked)
        return Draw(masked, None, share)

    def draw(
        self,
        batch: int,
        masking: MaskingSpec,
        generator: torch.Generator,
        object_masks: Tensor | None = None,  # noqa: ARG002
    ) -> Draw:
        """One mask for the batch, or one for each image (``masking.scope``)."""
        variance, per_image = self.basis.explained_variance_ratio, masking.scope == "image"
        assert masking.count is not None, "the masking is not resolved"
        count = masking.count
        low, high = masking.ratio_range
        ratios = draw_ratios((low, high), batch if per_image and low < high else 1, generator)
        if masking.strategy == "top":
            masked = top_component_mask(variance, ratios, count=count)
        elif masking.strategy == "bottom":
            masked = bottom_component_mask(variance, ratios, count=count)
        else:
            draw = random_component_mask if masking.strategy == "random" else block_component_mask
            masked = draw(variance, ratios, generator, count=count, batch=batch if per_image else 1)
        masked = masked if per_image else masked[0]
        return Draw(masked, float(ratios.mean()), masked_variance(variance, masked))

    def hidden_part(self, images: Tensor, masked: Tensor) -> Tensor:
        """The projection on the masked components."""
        return self.basis.project(images, masked)

    def predict(
        self, model: MaskedAutoencoder, images: Tensor, masked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The encoder sees all patches of the image without its masked components."""
        prediction, cls = model(images - self.hidden_part(images, masked))
        return prediction, cls

    def loss(self, prediction: Tensor, images: Tensor, masked: Tensor) -> Tensor:
        """See :func:`pmae.losses.masked_component_loss`."""
        return masked_component_loss(prediction, images, self.basis, masked)

    def mean_squares(self, images: Tensor) -> Tensor:
        """The squared coordinates."""
        return self.basis.transform(images).square()


@dataclass(frozen=True)
class PatchObjective:
    """MAE: predict the masked patches from the visible ones."""

    num_patches: int
    patch_size: int

    @property
    def parts_name(self) -> Literal["patches"]:
        """Patches."""
        return "patches"

    @property
    def num_total(self) -> int:
        """The number of patches."""
        return self.num_patches

    def given(self, selection: Selection, batch: int) -> Draw:
        """The same mask for every image."""
        masked = chosen_mask(selection, self.num_total, what=self.parts_name)
        return Draw(masked.expand(batch, -1), None, float(masked.float().mean()))

    def draw(
        self,
        batch: int,
        masking: MaskingSpec,
        generator: torch.Generator,
        object_masks: Tensor | None = None,
    ) -> Draw:
        """Patches drawn for each image: with one ratio for the batch, or by its objects."""
        if masking.strategy == "segmentation":
            assert object_masks is not None
            return self._draw_by_objects(masking, generator, object_masks)
        ratio = float(draw_ratios(masking.ratio_range, 1, generator))
        masked = random_patch_mask(batch, self.num_patches, ratio, generator)
        return Draw(masked, ratio, float(masked.float().mean()))

    def _draw_by_objects(
        self, masking: MaskingSpec, generator: torch.Generator, object_masks: Tensor
    ) -> Draw:
        assert masking.mode is not None
        shown = objects_in_patches(object_masks, self.patch_size).cpu()
        ratios = torch.ones(1, dtype=torch.float64)
        if masking.mode == "partial":
            ratios = draw_ratios(masking.ratio_range, len(shown), generator)
        masked = object_patch_mask(shown, masking.mode, ratios, generator)
        ratio = float(ratios.mean()) if masking.mode == "partial" else None
        return Draw(masked, ratio, float(masked.float().mean()))

    def hidden_part(self, images: Tensor, masked: Tensor) -> Tensor:
        """The masked patches, zero elsewhere."""
        return images * pixel_mask(to_device(masked, images.device), self.patch_size)

    def predict(
        self, model: MaskedAutoencoder, images: Tensor, masked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The encoder sees the visible patches only."""
        visible, padding = padded_visible_indices(masked)
        padding = None if padding is None else to_device(padding, images.device)
        prediction, cls = model(images, to_device(visible, images.device), padding)
        return prediction, cls

    def loss(self, prediction: Tensor, images: Tensor, masked: Tensor) -> Tensor:
        """See :func:`pmae.losses.masked_patch_loss`."""
        return masked_patch_loss(prediction, images, masked, self.patch_size)

    def mean_squares(self, images: Tensor) -> Tensor:
        """The mean square of each patch's pixels."""
        return patchify(images, self.patch_size).square().mean(dim=2)


def objective_for(spec: ExperimentSpec, basis: Basis | None) -> Objective:
    """The objective of a resolved spec; ``basis`` on the model's device, None for MAE."""
    if spec.method == "mae":
        grid = spec.resolution // spec.patch_size
        return PatchObjective(grid * grid, spec.patch_size)
    if basis is None:
        raise ValueError("PMAE needs a basis")
    return ComponentObjective(basis)
