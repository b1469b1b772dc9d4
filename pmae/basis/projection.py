"""The projection on the masked components of a basis."""

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
    """``P``, the orthogonal projection on what is masked, computed in IEEE fp32.

    Attributes:
        components: ``(k, num_pixels)``, the masked components; all of them where each image has a
            mask of its own.
        index: int64 ``(k,)``, which components of the basis these are.
        masked: bool ``(batch, k)``, True = masked; None: all ``k``, in every image.
    """

    components: Tensor
    index: Tensor
    masked: Tensor | None

    @classmethod
    def of(cls, basis: Basis, masked: Tensor) -> Self:
        """The projection for a mask.

        Args:
            basis: of the components.
            masked: bool, True = masked: ``(num_components,)`` for the whole batch, or
                ``(batch, num_components)``; from the CPU, nothing waits for the device.
        """
        device = basis.components.device
        if masked.ndim == 1:
            index = to_device(masked.nonzero()[:, 0], device)
            return cls(basis.components.index_select(0, index), index, None)
        index = torch.arange(masked.shape[1], device=device)
        return cls(basis.components, index, to_device(masked, device))

    def coordinates(self, images: Tensor) -> Tensor:
        """The masked coordinates of ``z = x V``.

        Args:
            images: ``(batch, ...)`` of any shape with ``num_pixels`` values.

        Returns:
            ``(batch, k)`` fp32, zero where a component is not masked.
        """
        coordinates = exact_product(images.flatten(1), self.components.T)
        return coordinates if self.masked is None else coordinates * self.masked

    def images(self, coordinates: Tensor) -> Tensor:
        """The images ``(batch, num_pixels)`` of masked coordinates, ``z V^T``."""
        return exact_product(coordinates, self.components)
