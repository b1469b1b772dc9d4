"""The projection onto the masked components of a basis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.basis.exact import exact_product
from pmae.runtime.transfer import to_device


@dataclass(frozen=True)
class Projection:
    """``P``, the orthogonal projection onto the masked components, computed in IEEE fp32.

    Attributes:
        components: ``(k, num_pixels)``, the masked components; with a mask for each image, all
            components of the basis.
        index: int64 ``(k,)``, the indices of ``components`` in the basis.
        masked: bool ``(batch, k)``, True = masked; None: all ``k`` are, in every image.
    """

    components: Tensor
    index: Tensor
    masked: Tensor | None

    @classmethod
    def of(cls, basis: Basis, masked: Tensor) -> Self:
        """Make the projection of a mask.

        Args:
            basis: with its components on the device that computes.
            masked: bool, True = masked: ``(num_components,)`` for the whole batch, or
                ``(batch, num_components)``. On the CPU, so that the device need not synchronise.
        """
        device = basis.components.device
        if masked.ndim == 1:
            index = to_device(masked.nonzero()[:, 0], device)
            return cls(basis.components.index_select(0, index), index, None)
        index = torch.arange(masked.shape[1], device=device)
        return cls(basis.components, index, to_device(masked, device))

    def coordinates(self, images: Tensor) -> Tensor:
        """Compute the masked coordinates of ``z = x V``.

        Args:
            images: ``(batch, ...)`` of any shape with ``num_pixels`` values.

        Returns:
            ``(batch, k)`` fp32, zero where a component is visible.
        """
        coordinates = exact_product(images.flatten(1), self.components.T)
        return coordinates if self.masked is None else coordinates * self.masked

    def images(self, coordinates: Tensor) -> Tensor:
        """Map masked coordinates ``(batch, k)`` to images ``z V^T``, ``(batch, num_pixels)``."""
        return exact_product(coordinates, self.components)
