"""Bands of a spectrum, by which what a model explains is told apart (docs/training.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pmae.metrics import BANDS

_EDGES = (0.50, 0.80, 0.95)
"""Shares of the total variance between the bands, greatest components first."""
_ROUNDING = 1e-9
"""By so much a sum may miss an edge that it is equal to."""


@dataclass(frozen=True)
class Bands:
    """To which band each component or patch belongs.

    Attributes:
        names: of the bands.
        index: int64 ``(num_total,)``, the band of each component or patch; on the CPU.
    """

    names: tuple[str, ...]
    index: Tensor

    @classmethod
    def of_spectrum(cls, explained_variance_ratio: Tensor) -> Self:
        """The bands :data:`pmae.metrics.BANDS` of a basis.

        A component belongs to the band in which it begins: what decides is the share of the total
        variance that the components before it hold. So the first always is in the first band, and
        a band that one component skips is empty.

        Args:
            explained_variance_ratio: ``(num_components,)`` float64, falling.
        """
        before = explained_variance_ratio.cumsum(dim=0) - explained_variance_ratio
        edges = torch.tensor(_EDGES, dtype=torch.float64)
        return cls(BANDS, torch.bucketize(before + _ROUNDING, edges, right=True))

    @classmethod
    def undivided(cls, num_total: int) -> Self:
        """All in one band."""
        return cls(("all",), torch.zeros(num_total, dtype=torch.int64))

    def one_hot(self) -> Tensor:
        """``(num_total, bands)`` float64: 1 where a component or patch belongs to a band."""
        return torch.nn.functional.one_hot(self.index, len(self.names)).double()
