"""Low pass: predict the detail of an image from its blurred self.

The components are cosines. Those above a cut-off frequency, drawn for every batch, are masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from pmae.errors import SpecError
from pmae.methods.base import MaskedImages, MaskSample, Score
from pmae.methods.components import ComponentMethod
from pmae.methods.lazy import losses, masks, torch
from pmae.spec import BasisSpec, MaskingSpec

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from pmae.basis.basis import Basis
    from pmae.models.autoencoder import MaskedAutoencoder
    from pmae.spec import ExperimentSpec
    from pmae.spec.catalog import DatasetFacts


@dataclass(frozen=True)
class LowPass(ComponentMethod):
    """Mask the cosines of the highest frequencies."""

    title = "Low pass"
    strategies = ("random",)
    default_masking = MaskingSpec(ratio=(0.3, 0.7), ratio_of="components", scope="batch")
    default_basis = BasisSpec(kind="dct")

    resolution: int

    @classmethod
    def of(cls, spec: ExperimentSpec, basis: Basis | None) -> Self:
        """Make the method of a resolved spec."""
        assert basis is not None
        return cls(basis, spec.resolution)

    @classmethod
    def resolve_masking(cls, masking: MaskingSpec, dataset: DatasetFacts) -> MaskingSpec:
        """Resolve the fields; refuse what :meth:`draw` does not do."""
        resolved = super().resolve_masking(masking, dataset)
        if (resolved.ratio_of, resolved.scope) != ("components", "batch"):
            raise SpecError("masking: expected ratio_of `components` and scope `batch`")
        return resolved

    @cached_property
    def frequency(self) -> Tensor:
        """Squared frequency of each component, ``(num_components,)``: that of its gradient."""
        cosines = self.basis.components.cpu().unflatten(1, (-1, self.resolution, self.resolution))
        vertical, horizontal = cosines.diff(dim=2), cosines.diff(dim=3)
        squares: Tensor = vertical.square().sum((1, 2, 3)) + horizontal.square().sum((1, 2, 3))
        return squares

    def draw(
        self,
        batch: int,  # noqa: ARG002 - one mask for the batch
        masking: MaskingSpec,
        generator: Generator,
        object_masks: Tensor | None = None,  # noqa: ARG002
    ) -> MaskSample:
        """Draw the share of the components that is masked, the highest frequencies first."""
        ratio = float(masks.draw_ratios(masking.ratio_range, 1, generator))
        count = min(max(round(ratio * self.num_total), 1), self.num_total - 1)
        masked = torch.zeros(self.num_total, dtype=torch.bool)
        masked[self.frequency.topk(count).indices] = True
        return self.sample(masked, ratio)

    def project(self, images: Tensor, masked: Tensor) -> MaskedImages:
        """Blur the images; their high frequencies are the target."""
        P = self.projection(masked)
        target = P.coordinates(images)
        visible = images - P.images(target).view_as(images)
        return MaskedImages(images, masked, visible, target, projection=P)

    def predict(self, model: MaskedAutoencoder, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Predict the images from all patches of the blurred ones."""
        x_hat, cls_token = model(batch.visible)
        return x_hat, cls_token

    def score(self, prediction: Tensor, batch: MaskedImages) -> Score:
        """Compute the mean square over the masked coordinates."""
        P = batch.projection
        assert P is not None
        error = P.coordinates(prediction - batch.images)
        loss = losses.masked_component_loss(error, P.masked)
        return Score(loss, *self.band_sums(error, batch))
