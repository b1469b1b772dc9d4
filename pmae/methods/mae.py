"""MAE: predict the masked patches of an image from the visible ones.

"Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377, section 3:

    draw      l        a set of patches of each image, masked
    project   P x      the masked patches; the encoder sees the others and nothing else
    predict   x_hat    = decoder(encoder(visible patches), mask tokens)
    loss      mean over the pixels of masked patches of (x_hat - x)^2

With ``norm_pix_loss`` the target is each patch less its mean and over its standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pmae.methods.base import MaskedImages, MaskSample, Score
from pmae.methods.lazy import losses, masks, transfer
from pmae.methods.patches import PatchMethod
from pmae.spec.parts.loss import LossSpec
from pmae.spec.parts.masking import MaskingSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pmae.basis.basis import Basis
    from pmae.models.autoencoder import MaskedAutoencoder
    from pmae.spec import ExperimentSpec


@dataclass(frozen=True)
class MAE(PatchMethod):
    """Mask patches; with ``norm_pix_loss`` predict each patch normalised."""

    title = "MAE"
    strategies = ("random", "segmentation")
    default_masking = MaskingSpec(ratio=0.75, scope="image")
    default_loss = LossSpec(norm_pix_loss=False)

    norm_pix_loss: bool = False

    @classmethod
    def of(cls, spec: ExperimentSpec, basis: Basis | None) -> Self:  # noqa: ARG003
        """Make the method of a resolved spec; patches have no basis."""
        grid = spec.resolution // spec.patch_size
        return cls(grid * grid, spec.patch_size, spec.loss.norm_pix_loss or False)

    def draw(
        self,
        batch: int,
        masking: MaskingSpec,
        generator: torch.Generator,
        object_masks: Tensor | None = None,
    ) -> MaskSample:
        """Draw patches of each image: with one ratio for the batch, or by its objects."""
        if masking.needs_object_masks:
            assert object_masks is not None
            shown = masks.objects_in_patches(object_masks, self.patch_size).cpu()
            masked, ratios = masks.draw_object_masks(shown, masking, generator)
        else:
            ratios = masks.draw_ratios(masking.ratio_range, 1, generator)
            masked = masks.random_patch_mask(batch, self.num_patches, float(ratios), generator)
        return self.sample(masked, None if masking.ratio is None else float(ratios.mean()))

    def project(self, images: Tensor, masked: Tensor) -> MaskedImages:
        """Make the patches the target, or with ``norm_pix_loss`` each less its mean and scaled."""
        target, moments = self.patchify(images), None
        if self.norm_pix_loss:
            mean, deviation = moments = losses.patch_moments(target)
            target = (target - mean) / deviation
        return MaskedImages(images, masked, images, target, moments=moments)

    def predict(self, model: MaskedAutoencoder, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Predict ``x_hat`` from the visible patches only."""
        device = batch.images.device
        visible, padding = masks.padded_visible_indices(batch.masked)
        padding = None if padding is None else transfer.to_device(padding, device)
        x_hat, cls_token = model(batch.visible, transfer.to_device(visible, device), padding)
        return x_hat, cls_token

    def score(self, prediction: Tensor, batch: MaskedImages) -> Score:
        """Compute the loss of section 3 (:func:`pmae.methods.losses.masked_patch_loss`)."""
        error = self.patchify(prediction) - batch.target
        masked = transfer.to_device(batch.masked, error.device)
        loss = losses.masked_patch_loss(error, masked)
        return Score(loss, *self.band_sums(error, batch, masked))
