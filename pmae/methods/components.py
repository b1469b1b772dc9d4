"""Base of methods that mask components of a basis: all but the four steps of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from pmae.methods.base import MaskedImages, MaskSample, Method
from pmae.methods.lazy import bands, masks, projection, torch
from pmae.spec.base import PartsName
from pmae.spec.parts.basis import BasisSpec

if TYPE_CHECKING:
    from torch import Tensor

    from pmae.basis.bands import Bands
    from pmae.basis.basis import Basis
    from pmae.basis.projection import Projection
    from pmae.masking import Selection

MIN_MEAN_EIGENVALUE = 1e-4
"""Smallest divisor of a loss. The mean of all eigenvalues is about 1; where only components
without variance are masked, a quotient by their own would be without bound."""


@dataclass(frozen=True)
class ComponentMethod(Method):
    """A method that masks components of ``basis``, which is on the model's device."""

    parts_name: ClassVar[PartsName] = "components"
    encoder_sees_all: ClassVar[bool] = True
    default_basis: ClassVar[BasisSpec | None] = BasisSpec()

    basis: Basis

    @property
    def num_total(self) -> int:
        """Number of components."""
        return self.basis.num_components

    @cached_property
    def bands(self) -> Bands:
        """Bands of the spectrum."""
        return bands.Bands.of_spectrum(self.basis.explained_variance_ratio)

    def select(self, selection: Selection, batch: int) -> MaskSample:  # noqa: ARG002
        """Mask the listed components of all images."""
        masked = masks.chosen_mask(selection, self.num_total, what=self.parts_name)
        return self.sample(masked, ratio=None)

    def sample(self, masked: Tensor, ratio: float | None) -> MaskSample:
        """Report a mask together with the share of the variance that it hides."""
        variance = masks.masked_variance(self.basis.explained_variance_ratio, masked)
        return MaskSample(masked, ratio, variance)

    def projection(self, masked: Tensor) -> Projection:
        """``P``, the orthogonal projection on the masked components."""
        return projection.Projection.of(self.basis, masked)

    def masked_projection(self, images: Tensor, masked: Tensor) -> Tensor:
        """Project on the masked components, ``P x``."""
        P = self.projection(masked)
        return P.images(P.coordinates(images)).view_as(images)

    def band_sums(self, error: Tensor, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Sum squares over images and the masked components of each band.

        Args:
            error: ``(x_hat - x) V``, ``(batch, k)``.
            batch: of ``k`` masked components.

        Returns:
            Of the error and of the target, float64 ``(bands,)`` each.
        """
        assert batch.projection is not None
        in_band = self._in_band[batch.projection.index]
        return (
            error.detach().square().sum(dim=0, dtype=torch.float64) @ in_band,
            batch.target.square().sum(dim=0, dtype=torch.float64) @ in_band,
        )

    def mean_eigenvalue(self, P: Projection) -> Tensor:
        """Mean eigenvalue of the masked components, for pixels of unit variance.

        Returns:
            A scalar, or ``(batch, 1)`` where each image has a mask of its own.
        """
        eigenvalues, masked = self._eigenvalues[P.index], P.masked
        if masked is None:
            return eigenvalues.mean().clamp(min=MIN_MEAN_EIGENVALUE)
        mean = (eigenvalues * masked).sum(dim=1, keepdim=True) / masked.sum(dim=1, keepdim=True)
        return mean.clamp(min=MIN_MEAN_EIGENVALUE)

    def standardized(self, prediction: Tensor, batch: MaskedImages) -> Tensor:  # noqa: ARG002
        """Decoded images, which are standardised pixels."""
        return prediction

    def mean_squares(self, prediction: Tensor, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Square the coordinates of prediction minus images, and of the images."""
        pairs = torch.cat([prediction.float() - batch.images, batch.images])
        residual, target = self.basis.transform(pairs).square().chunk(2)
        return residual, target

    @cached_property
    def _in_band(self) -> Tensor:
        """``(num_components, bands)`` float64, on the basis' device."""
        return self.bands.one_hot().to(self.basis.components.device)

    @cached_property
    def _eigenvalues(self) -> Tensor:
        """``(num_components,)`` fp32 on the basis' device, for pixels of unit variance."""
        eigenvalues = self.basis.explained_variance_ratio * self.basis.num_pixels
        return eigenvalues.float().to(self.basis.components.device)
