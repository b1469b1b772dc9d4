"""Bands of the spectrum, for explained variance band by band (docs/training.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pmae.metrics import BANDS

_EDGES = (0.50, 0.80, 0.95)
"""Cumulative fractions of the total variance that separate the bands."""
_TOLERANCE = 1e-9
"""Rounding error to allow when a cumulative sum is compared with an edge."""


@dataclass(frozen=True)
class Bands:
    """The band of each component or patch.

    Attributes:
        names: of the bands.
        index: int64 ``(num_total,)``, the position in ``names`` of each component's or patch's
            band; on the CPU.
    """

    names: tuple[str, ...]
    index: Tensor

    @classmethod
    def of_spectrum(cls, explained_variance_ratio: Tensor) -> Self:
        """Divide a basis's components into the bands :data:`pmae.metrics.BANDS`.

        A component belongs to the band in which it begins, by the cumulative variance of the
        components before it. So the first component is always in the first band, and a band that a
        single component spans entirely stays empty.

        Args:
            explained_variance_ratio: ``(num_components,)`` float64, descending.
        """
        before = explained_variance_ratio.cumsum(dim=0) - explained_variance_ratio
        edges = torch.tensor(_EDGES, dtype=torch.float64)
        return cls(BANDS, torch.bucketize(before + _TOLERANCE, edges, right=True))

    @classmethod
    def undivided(cls, num_total: int) -> Self:
        """Put all components or patches into one band."""
        return cls(("all",), torch.zeros(num_total, dtype=torch.int64))

    def one_hot(self) -> Tensor:
        """``(num_total, bands)`` float64: 1 where a component or patch belongs to a band."""
        return torch.nn.functional.one_hot(self.index, len(self.names)).double()
