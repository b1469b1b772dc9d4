"""What a prediction leaves of each masked component or patch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of each component or patch of some images, all ``(n, num_total)`` float32.

    Attributes:
        residual: of prediction minus target.
        target: of the target.
        masked: bool, True = masked.
    """

    residual: Tensor
    target: Tensor
    masked: Tensor

    def cpu(self) -> MeanSquares:
        """Copy to the CPU."""
        return MeanSquares(self.residual.cpu(), self.target.cpu(), self.masked.cpu())

    @property
    def per_image(self) -> Tensor:
        """The loss of each image, ``(n,)``: the mean over what is masked."""
        return _mean(self.residual, self.masked, dim=1)

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
