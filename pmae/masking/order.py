"""Random permutations, and masks of the first entries of each.

NumPy sorts here, since its vectorised sort is five times as fast as torch's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CHUNK_VALUES = 1 << 17
"""Number of values to process at once: about as many as fit the processor's cache."""


def random_order(rows: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw a uniform permutation of ``count`` indices for each row.

    Drawing the rows in chunks gives the same as drawing them all at once.

    Returns:
        int64 ``(rows, count)``.
    """
    return ascending(torch.rand(rows, count, generator=generator, dtype=torch.float64))


def ascending(noise: Tensor) -> Tensor:
    """Sort each row's indices by value, ascending: float64 ``(rows, count)`` to int64."""
    return torch.from_numpy(np.argsort(noise.numpy(), axis=1))


def mask_first(order: Tensor, counts: Tensor) -> Tensor:
    """Mask the indices that come first in an order.

    Args:
        order: int64 ``(rows, count)``, each row a permutation.
        counts: int64 ``(rows,)`` or ``(1,)``, the number to mask in each row.

    Returns:
        bool ``(rows, count)``, True = masked.
    """
    first = torch.arange(order.shape[1]) < counts[:, None]
    masked = torch.empty(order.shape, dtype=torch.bool)
    return masked.scatter_(1, order, first.expand_as(order))
