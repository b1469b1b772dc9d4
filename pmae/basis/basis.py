"""A basis and its two maps, ``z = x V`` and ``x = z V^T`` (arXiv 2502.06314, section 3).

Both are computed in IEEE fp32, under autocast too (:mod:`pmae.basis.exact`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pmae.basis.exact import exact_product


@dataclass(frozen=True)
class Basis:
    """Orthonormal components of image space, by descending explained variance.

    Attributes:
        components: ``(num_components, num_pixels)`` float32, orthonormal rows: the paper's ``V^T``.
            ``num_pixels`` is ``channels * height * width``.
        explained_variance_ratio: ``(num_components,)`` float64, each component's fraction of the
            total variance of the standardised images that it was fitted on; sums to 1, or to less
            on a truncated basis.
    """

    components: Tensor
    explained_variance_ratio: Tensor

    def __post_init__(self) -> None:
        assert self.components.ndim == 2
        assert self.explained_variance_ratio.shape == self.components.shape[:1]

    @property
    def num_components(self) -> int:
        """Number of components."""
        return len(self.components)

    @property
    def num_pixels(self) -> int:
        """Values of an image: ``channels * height * width``."""
        return self.components.shape[1]

    @property
    def spanned_variance(self) -> float:
        """Fraction of the total variance that the components explain: below 1 if truncated."""
        return min(1.0, float(self.explained_variance_ratio.sum()))

    def first(self, count: int | None) -> Basis:
        """Truncate to the first ``count`` components; None keeps all."""
        if count is None or count >= self.num_components:
            return self
        return Basis(self.components[:count].clone(), self.explained_variance_ratio[:count].clone())

    def transform(self, images: Tensor) -> Tensor:
        """Compute ``z = x V``: ``(batch, ...)`` to ``(batch, num_components)``."""
        return exact_product(images.flatten(1), self.components.T)

    def inverse_transform(self, coordinates: Tensor) -> Tensor:
        """Compute ``x = z V^T``: ``(batch, num_components)`` to ``(batch, num_pixels)``."""
        return exact_product(coordinates, self.components)

    def to(self, device: torch.device) -> Basis:
        """Move the components to ``device``; the ratios stay on the CPU, where masks are drawn."""
        return Basis(self.components.to(device), self.explained_variance_ratio)
