"""Base of methods that mask patches: all but the four steps of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from pmae.methods.base import MaskedImages, MaskSample, Method
from pmae.methods.lazy import bands, masks, patches, torch, transfer
from pmae.spec.base import PartsName

if TYPE_CHECKING:
    from torch import Tensor

    from pmae.basis.bands import Bands
    from pmae.masking import Selection


@dataclass(frozen=True)
class PatchMethod(Method):
    """A method that masks some of an image's ``num_patches`` square patches."""

    parts_name: ClassVar[PartsName] = "patches"
    encoder_sees_all: ClassVar[bool] = False

    num_patches: int
    patch_size: int

    @property
    def num_total(self) -> int:
        """Number of patches."""
        return self.num_patches

    @cached_property
    def bands(self) -> Bands:
        """One band: patches have no spectrum."""
        return bands.Bands.undivided(self.num_patches)

    def select(self, selection: Selection, batch: int) -> MaskSample:
        """Mask the listed patches of every image."""
        masked = masks.chosen_mask(selection, self.num_total, what=self.parts_name)
        return self.sample(masked.expand(batch, -1), ratio=None)

    def sample(self, masked: Tensor, ratio: float | None) -> MaskSample:
        """Report a mask together with the share of the patches that it hides."""
        return MaskSample(masked, ratio, float(masked.float().mean()))

    def patchify(self, images: Tensor) -> Tensor:
        """Cut images into patches, ``(batch, num_patches, patch_dim)``."""
        return patches.patchify(images, self.patch_size)

    def masked_projection(self, images: Tensor, masked: Tensor) -> Tensor:
        """Keep the masked patches, zero elsewhere."""
        return images * patches.pixel_mask(
            transfer.to_device(masked, images.device), self.patch_size
        )

    def band_sums(
        self, error: Tensor, batch: MaskedImages, masked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum squares over images and masked patches.

        Args:
            error: prediction minus target, ``(batch, num_patches, patch_dim)``.
            batch: with the target.
            masked: the batch's, on the device of ``error``.

        Returns:
            Of the error and of the target in standardised pixels, float64 ``(1,)`` each.
        """
        residual, target = self._squares(error.detach(), batch)
        return (
            (residual * masked).sum(dtype=torch.float64)[None],
            (target * masked).sum(dtype=torch.float64)[None],
        )

    def standardized(self, prediction: Tensor, batch: MaskedImages) -> Tensor:
        """Give each patch back the mean and deviation by which its target is normalised."""
        if batch.moments is None:
            return prediction
        mean, deviation = batch.moments
        pixels = self.patchify(prediction) * deviation + mean
        return patches.unpatchify(pixels, self.patch_size, prediction.shape[1])

    def mean_squares(self, prediction: Tensor, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Average squares over each patch's pixels."""
        residual, target = self._squares(self.patchify(prediction) - batch.target, batch)
        patch_dim = batch.target.shape[2]
        return residual / patch_dim, target / patch_dim

    def _squares(self, error: Tensor, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Sums of squares of each patch in standardised pixels, ``(batch, num_patches)`` each.

        Where the target is normalised a patch's mean is given, and only the differences of its
        pixels are to be predicted.
        """
        residual, target = error.square().sum(dim=2), batch.target.square().sum(dim=2)
        if batch.moments is not None:
            variance = batch.moments[1].squeeze(2).square()
            residual, target = residual * variance, target * variance
        return residual, target
