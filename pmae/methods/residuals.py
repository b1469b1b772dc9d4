"""Residuals of a prediction: of each masked component or patch, and explained variance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pmae.basis.bands import Bands


@dataclass(frozen=True)
class Explained:
    """Share of the masked variance that a prediction explains (docs/training.md).

    ``1 - sum of residuals / sum of targets``: 1 is perfect, 0 is what predicting nothing gives.

    Attributes:
        whole: of all that is masked; None: it has no variance.
        bands: of each band of the spectrum of which anything is masked; empty for MAE.
    """

    whole: float | None
    bands: dict[str, float]


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of each component or patch of some images, all ``(n, num_total)`` float32.

    Attributes:
        residual: of prediction minus target.
        target: of the target.
        masked: bool, True = masked.
        bands: to which band of the spectrum a component belongs.
    """

    residual: Tensor
    target: Tensor
    masked: Tensor
    bands: Bands

    def cpu(self) -> MeanSquares:
        """Copy to the CPU."""
        return MeanSquares(self.residual.cpu(), self.target.cpu(), self.masked.cpu(), self.bands)

    @property
    def per_image(self) -> Tensor:
        """The mean residual of each image over what is masked, ``(n,)``."""
        return _mean(self.residual, self.masked, dim=1)

    def explained(self) -> Explained:
        """Compute the share explained of all images together."""
        residual, target = self._sums()
        return self._share(residual.sum(dim=0), target.sum(dim=0))

    def explained_per_image(self) -> list[Explained]:
        """Compute the share explained of each image."""
        return [self._share(*sums) for sums in zip(*self._sums(), strict=True)]

    def _sums(self) -> tuple[Tensor, Tensor]:
        """Sums over what is masked, ``(n, bands)`` float64, of the residual and of the target."""
        in_band = self.bands.one_hot()
        residual, target = (
            torch.where(self.masked, values, 0.0).double().cpu() @ in_band
            for values in (self.residual, self.target)
        )
        return residual, target

    def _share(self, residual: Tensor, target: Tensor) -> Explained:
        names = self.bands.names if len(self.bands.names) > 1 else ()
        whole = float(target.sum())
        return Explained(
            1 - float(residual.sum()) / whole if whole > 0 else None,
            {
                name: 1 - float(residual[band] / target[band])
                for band, name in enumerate(names)
                if target[band] > 0
            },
        )

    def per_part(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each component or patch, over the images that mask it.

        Returns:
            The indices of what any image masks, ascending, int64 ``(k,)``; the mean residual and
            the mean target of each, ``(k,)``.
        """
        (index,) = self.masked.any(dim=0).nonzero(as_tuple=True)
        masked = self.masked[:, index]
        return (
            index,
            _mean(self.residual[:, index], masked, dim=0),
            _mean(self.target[:, index], masked, dim=0),
        )


def _mean(values: Tensor, masked: Tensor, *, dim: int) -> Tensor:
    return torch.where(masked, values, 0.0).sum(dim=dim) / masked.sum(dim=dim)
