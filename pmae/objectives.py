"""What is hidden, what the model sees of it, and what it is asked for: PMAE's and MAE's.

Both objectives have the same methods, so that training, validation and reconstructions need not
know which one they serve. With ``P`` the projection on what is masked, ``hidden_part`` is ``P x``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.losses import masked_component_loss, masked_patch_loss
from pmae.masking import (
    draw_ratio,
    masked_variance,
    random_component_mask,
    random_patch_mask,
    visible_indices,
)
from pmae.models import MaskedAutoencoder
from pmae.patches import pixel_mask
from pmae.spec import ExperimentSpec, MaskingSpec


class Objective(Protocol):
    """A masked prediction task."""

    @property
    def num_total(self) -> int:
        """How many components or patches there are to mask."""

    def draw(self, batch: int, masking: MaskingSpec, generator: torch.Generator) -> Draw:
        """Draw what is masked for a batch, on the CPU."""

    def hidden_part(self, images: Tensor, masked: Tensor) -> Tensor:
        """``P x``: the shape of ``images``, holding only what is masked."""

    def predict(
        self, model: MaskedAutoencoder, images: Tensor, masked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The decoded images and the CLS tokens, from what is visible of ``images``."""

    def loss(self, prediction: Tensor, images: Tensor, masked: Tensor) -> Tensor:
        """The mean squared error over what is masked, a scalar."""


@dataclass(frozen=True)
class Draw:
    """A drawn mask.

    Attributes:
        masked: bool, True = masked: ``(num_total,)`` for the whole batch or ``(batch, num_total)``.
        ratio: the ratio asked for.
        masked_share: the share really masked, of variance or of patches.
    """

    masked: Tensor
    ratio: float
    masked_share: float


@dataclass(frozen=True)
class ComponentObjective:
    """PMAE: predict the masked components of the basis from an image of the others."""

    basis: Basis

    @property
    def num_total(self) -> int:
        """The number of components."""
        return self.basis.num_components

    def draw(self, batch: int, masking: MaskingSpec, generator: torch.Generator) -> Draw:
        """One mask for the batch, or one for each image (``masking.scope``)."""
        ratio = draw_ratio(masking.ratio_range, generator)
        variance = self.basis.explained_variance_ratio
        rows = batch if masking.scope == "image" else None
        masked = random_component_mask(variance, ratio, generator, batch=rows)
        return Draw(masked, ratio, masked_variance(variance, masked))

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


@dataclass(frozen=True)
class PatchObjective:
    """MAE: predict the masked patches from the visible ones."""

    num_patches: int
    patch_size: int

    @property
    def num_total(self) -> int:
        """The number of patches."""
        return self.num_patches

    def draw(self, batch: int, masking: MaskingSpec, generator: torch.Generator) -> Draw:
        """One ratio for the batch, patches drawn for each image."""
        ratio = draw_ratio(masking.ratio_range, generator)
        masked = random_patch_mask(batch, self.num_patches, ratio, generator)
        return Draw(masked, ratio, float(masked.float().mean()))

    def hidden_part(self, images: Tensor, masked: Tensor) -> Tensor:
        """The masked patches, zero elsewhere."""
        return images * pixel_mask(masked, self.patch_size)

    def predict(
        self, model: MaskedAutoencoder, images: Tensor, masked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The encoder sees the visible patches only."""
        prediction, cls = model(images, visible_indices(masked))
        return prediction, cls

    def loss(self, prediction: Tensor, images: Tensor, masked: Tensor) -> Tensor:
        """See :func:`pmae.losses.masked_patch_loss`."""
        return masked_patch_loss(prediction, images, masked, self.patch_size)


def objective_for(spec: ExperimentSpec, basis: Basis | None) -> Objective:
    """The objective of a resolved spec; ``basis`` on the model's device, None for MAE."""
    if spec.method == "mae":
        grid = spec.resolution // spec.patch_size
        return PatchObjective(grid * grid, spec.patch_size)
    if basis is None:
        raise ValueError("PMAE needs a basis")
    return ComponentObjective(basis)
