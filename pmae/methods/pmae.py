"""PMAE: predict the masked principal components of an image from the others.

"From Pixels to Components", arXiv 2502.06314, section 3. Of an image ``x`` (flattened,
standardised) and the orthonormal components ``V`` (columns) of a basis:

    draw      l        a set of components, masked
    project   P x      = (x V)_l V_l^T; the encoder sees x - P x, all patches of it
    predict   x_hat    = decoder(encoder(x - P x))
    loss      mean over the batch and l of ((x_hat V - x V)_l)^2      (equation 2)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pmae.methods.base import MaskedImages, MaskSample, Score
from pmae.methods.components import ComponentMethod
from pmae.methods.lazy import losses, masks
from pmae.spec.parts.loss import LossScale, LossSpec
from pmae.spec.parts.masking import MaskingSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pmae.basis.basis import Basis
    from pmae.models.autoencoder import MaskedAutoencoder
    from pmae.spec import ExperimentSpec


@dataclass(frozen=True)
class PMAE(ComponentMethod):
    """Mask components of ``basis``; divide the loss as ``scale`` says."""

    title = "PMAE"
    strategies = ("random", "top", "bottom", "block")
    default_masking = MaskingSpec(ratio=0.2, ratio_of="variance", count="reference", scope="batch")
    default_loss = LossSpec(scale="none")

    scale: LossScale = "none"

    @classmethod
    def of(cls, spec: ExperimentSpec, basis: Basis | None) -> Self:
        """Make the method of a resolved spec; ``basis`` on the model's device."""
        assert basis is not None, "PMAE needs a basis"
        return cls(basis, spec.loss.scale or "none")

    def draw(
        self,
        batch: int,
        masking: MaskingSpec,
        generator: torch.Generator,
        object_masks: Tensor | None = None,  # noqa: ARG002
    ) -> MaskSample:
        """Draw ``l``: one mask for the batch, or one for each image (``masking.scope``)."""
        variance = self.basis.explained_variance_ratio
        masked, ratios = masks.draw_component_masks(variance, masking, generator, batch)
        return self.sample(masked, float(ratios.mean()))

    def project(self, images: Tensor, masked: Tensor) -> MaskedImages:
        """Take ``P x`` out of the images: ``(x V)_l`` is the target, ``x - P x`` visible."""
        P = self.projection(masked)
        target = P.coordinates(images)
        visible = images - P.images(target).view_as(images)
        return MaskedImages(images, masked, visible, target, projection=P)

    def predict(self, model: MaskedAutoencoder, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Predict ``x_hat`` from all patches of ``x - P x``."""
        x_hat, cls_token = model(batch.visible)
        return x_hat, cls_token

    def score(self, prediction: Tensor, batch: MaskedImages) -> Score:
        """Compute equation 2 (:func:`pmae.methods.losses.masked_component_loss`)."""
        P = batch.projection
        assert P is not None
        error = P.coordinates(prediction - batch.images)
        eigenvalue = self.mean_eigenvalue(P) if self.scale == "masked_variance" else None
        loss = losses.masked_component_loss(error, P.masked, eigenvalue)
        return Score(loss, *self.band_sums(error, batch))
