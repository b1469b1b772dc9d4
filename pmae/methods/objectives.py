"""What is hidden, what the model sees of it, and what it is asked for: PMAE's and MAE's.

Both objectives have the same methods, so that training, validation and reconstructions need not
know which one they serve. With ``P`` the projection on what is masked, ``hidden_part`` is ``P x``.
What is seen and what is asked for are computed in IEEE fp32, whatever the model computes in.

A mask may lie on the CPU, where it was drawn, or beside the images. From the CPU no method waits
for the device: what is masked, and how much, is then known before the device is asked for anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from pmae.basis.bands import Bands
from pmae.basis.basis import Basis
from pmae.basis.projection import Projection
from pmae.masking import (
    Selection,
    background_patch_mask,
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
from pmae.methods.losses import masked_component_loss, masked_patch_loss, patch_moments
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.models.patches import patchify, pixel_mask, unpatchify
from pmae.runtime.transfer import to_device
from pmae.spec import ExperimentSpec, MaskingSpec
from pmae.spec.parts.loss import LossScale

MIN_MEAN_EIGENVALUE = 1e-4
"""What a loss is divided by at least. The mean of all eigenvalues is about 1; where only components
without variance are masked, a quotient by their own would be without bound."""


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

    @property
    def bands(self) -> Bands:
        """By which what is explained is told apart."""

    def hidden_part(self, images: Tensor, masked: Tensor) -> Tensor:
        """``P x``: the shape of ``images``, holding only what is masked."""

    def mask(self, images: Tensor, masked: Tensor) -> MaskedImages:
        """What the model sees of images, and what it is asked for."""

    def predict(self, model: MaskedAutoencoder, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """The decoded images and the CLS tokens, from what is visible."""

    def score(self, prediction: Tensor, batch: MaskedImages) -> Score:
        """The loss of decoded images, and how much of what was masked they explain."""

    def standardized(self, prediction: Tensor, batch: MaskedImages) -> Tensor:
        """Decoded images in standardised pixels, which a loss may have been normalised from."""

    def mean_squares(self, prediction: Tensor, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """What decoded images leave of each component or patch, and what there was of it.

        Returns:
            The mean squares of prediction minus target, and of the target, each
            ``(batch, num_total)``; of what is not masked, too.
        """


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
class MaskedImages:
    """Images of which something is masked.

    Attributes:
        images: ``(batch, channels, height, width)`` fp32, standardised.
        masked: bool, True = masked: ``(num_total,)`` or ``(batch, num_total)``, wherever it lay.
        visible: the shape of ``images``: PMAE: ``x - P x``; MAE: the images, of which the encoder
            sees the visible patches.
        target: PMAE: the masked coordinates ``(batch, k)``; MAE: what is to be predicted of each
            patch, ``(batch, num_patches, patch_dim)``.
        projection: PMAE: ``P``.
    """

    images: Tensor
    masked: Tensor
    visible: Tensor
    target: Tensor
    projection: Projection | None = None


@dataclass(frozen=True)
class Score:
    """How good a prediction is.

    Attributes:
        loss: a scalar.
        residual: float64 ``(bands,)``, without a gradient: the sum over images and masked
            components or pixels of the squares of prediction minus target.
        target: the same of the squares of the target.
    """

    loss: Tensor
    residual: Tensor
    target: Tensor


@dataclass(frozen=True)
class ComponentObjective:
    """PMAE: predict the masked components of the basis from an image of the others."""

    basis: Basis
    scale: LossScale = "none"

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
        count = masking.count
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
        masked = masked if per_image else masked[0]
        return Draw(masked, float(ratios.mean()), masked_variance(variance, masked))

    @cached_property
    def bands(self) -> Bands:
        """Bands of the spectrum."""
        return Bands.of_spectrum(self.basis.explained_variance_ratio)

    @cached_property
    def _in_band(self) -> Tensor:
        """``(num_components, bands)`` float64, on the basis' device."""
        return self.bands.one_hot().to(self.basis.components.device)

    @cached_property
    def _eigenvalues(self) -> Tensor:
        """``(num_components,)`` fp32 on the basis' device, for pixels of unit variance."""
        eigenvalues = self.basis.explained_variance_ratio * self.basis.num_pixels
        return eigenvalues.float().to(self.basis.components.device)

    def hidden_part(self, images: Tensor, masked: Tensor) -> Tensor:
        """The projection on the masked components."""
        projection = Projection.of(self.basis, masked)
        return projection.images(projection.coordinates(images)).view_as(images)

    def mask(self, images: Tensor, masked: Tensor) -> MaskedImages:
        """The encoder sees all patches of the image without its masked components."""
        projection = Projection.of(self.basis, masked)
        target = projection.coordinates(images)
        visible = images - projection.images(target).view_as(images)
        return MaskedImages(images, masked, visible, target, projection)

    def predict(self, model: MaskedAutoencoder, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """From the image without its masked components."""
        prediction, cls = model(batch.visible)
        return prediction, cls

    def score(self, prediction: Tensor, batch: MaskedImages) -> Score:
        """See :func:`pmae.methods.losses.masked_component_loss`."""
        projection = batch.projection
        assert projection is not None
        error = projection.coordinates(prediction - batch.images)
        scale = self._mean_eigenvalue(projection) if self.scale == "masked_variance" else None
        in_band = self._in_band[projection.index]
        return Score(
            masked_component_loss(error, projection.masked, scale),
            error.detach().square().sum(dim=0, dtype=torch.float64) @ in_band,
            batch.target.square().sum(dim=0, dtype=torch.float64) @ in_band,
        )

    def _mean_eigenvalue(self, projection: Projection) -> Tensor:
        """Of the masked components: a scalar, or ``(batch, 1)`` where each image has a mask."""
        eigenvalues, masked = self._eigenvalues[projection.index], projection.masked
        if masked is None:
            return eigenvalues.mean().clamp(min=MIN_MEAN_EIGENVALUE)
        mean = (eigenvalues * masked).sum(dim=1, keepdim=True) / masked.sum(dim=1, keepdim=True)
        return mean.clamp(min=MIN_MEAN_EIGENVALUE)

    def standardized(self, prediction: Tensor, batch: MaskedImages) -> Tensor:  # noqa: ARG002
        """They are."""
        return prediction

    def mean_squares(self, prediction: Tensor, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """The squared coordinates."""
        pairs = torch.cat([prediction.float() - batch.images, batch.images])
        residual, target = self.basis.transform(pairs).square().chunk(2)
        return residual, target


@dataclass(frozen=True)
class PatchObjective:
    """MAE: predict the masked patches from the visible ones."""

    num_patches: int
    patch_size: int
    norm_pix_loss: bool = False

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
        assert masking.mode
        assert masking.predict, "the masking is not resolved"
        shown = objects_in_patches(object_masks, self.patch_size).cpu()
        ratios = torch.ones(1, dtype=torch.float64)
        if masking.ratio is not None:
            ratios = draw_ratios(masking.ratio_range, len(shown), generator)
        draw = object_patch_mask if masking.predict == "object" else background_patch_mask
        masked = draw(shown, masking.mode, ratios, generator)
        ratio = None if masking.ratio is None else float(ratios.mean())
        return Draw(masked, ratio, float(masked.float().mean()))

    @cached_property
    def bands(self) -> Bands:
        """None: patches have no spectrum."""
        return Bands.undivided(self.num_patches)

    def hidden_part(self, images: Tensor, masked: Tensor) -> Tensor:
        """The masked patches, zero elsewhere."""
        return images * pixel_mask(to_device(masked, images.device), self.patch_size)

    def mask(self, images: Tensor, masked: Tensor) -> MaskedImages:
        """The target are the patches, or with ``norm_pix_loss`` those normalised one by one."""
        target = patchify(images, self.patch_size)
        if self.norm_pix_loss:
            mean, deviation = patch_moments(target)
            target = (target - mean) / deviation
        return MaskedImages(images, masked, images, target)

    def predict(self, model: MaskedAutoencoder, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """The encoder sees the visible patches only."""
        visible, padding = padded_visible_indices(batch.masked)
        padding = None if padding is None else to_device(padding, batch.images.device)
        prediction, cls = model(batch.visible, to_device(visible, batch.images.device), padding)
        return prediction, cls

    def score(self, prediction: Tensor, batch: MaskedImages) -> Score:
        """See :func:`pmae.methods.losses.masked_patch_loss`."""
        error = patchify(prediction, self.patch_size) - batch.target
        residual, target = self._squares(error.detach(), batch)
        masked = to_device(batch.masked, error.device)
        return Score(
            masked_patch_loss(error, masked),
            (residual * masked).sum(dtype=torch.float64)[None],
            (target * masked).sum(dtype=torch.float64)[None],
        )

    def _squares(self, error: Tensor, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Sums of squares of each patch in standardised pixels, ``(batch, num_patches)`` each.

        With ``norm_pix_loss`` a patch's mean is given, and the target is how its pixels differ.
        """
        residual, target = error.square().sum(dim=2), batch.target.square().sum(dim=2)
        if self.norm_pix_loss:
            _, deviation = patch_moments(patchify(batch.images, self.patch_size))
            variance = deviation.squeeze(2).square()
            residual, target = residual * variance, target * variance
        return residual, target

    def standardized(self, prediction: Tensor, batch: MaskedImages) -> Tensor:
        """With ``norm_pix_loss`` each patch gets back the mean and deviation of its target."""
        if not self.norm_pix_loss:
            return prediction
        mean, deviation = patch_moments(patchify(batch.images, self.patch_size))
        patches = patchify(prediction, self.patch_size) * deviation + mean
        return unpatchify(patches, self.patch_size, prediction.shape[1])

    def mean_squares(self, prediction: Tensor, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Over each patch's pixels."""
        error = patchify(prediction, self.patch_size) - batch.target
        residual, target = self._squares(error, batch)
        patch_dim = batch.target.shape[2]
        return residual / patch_dim, target / patch_dim


def objective_for(spec: ExperimentSpec, basis: Basis | None) -> Objective:
    """The objective of a resolved spec; ``basis`` on the model's device, None for MAE."""
    if spec.method == "mae":
        grid = spec.resolution // spec.patch_size
        return PatchObjective(grid * grid, spec.patch_size, spec.loss.norm_pix_loss or False)
    if basis is None:
        raise ValueError("PMAE needs a basis")
    return ComponentObjective(basis, spec.loss.scale or "none")
