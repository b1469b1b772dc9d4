"""k nearest neighbours by Euclidean distance, for several ``k`` in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK_BYTES = 1 << 26
_SPARE = 8
"""Additional candidates, since float32 may order the farthest ones wrongly."""


def nearest(queries: Tensor, points: Tensor, k: int) -> Tensor:
    """Find the ``k`` nearest points of every query, nearest first; ties by index.

    Candidates are found by one matrix product in float32, then sorted by distance in float64.

    Args:
        queries: ``(n, dim)`` float32.
        points: ``(m, dim)`` float32.
        k: at most ``m``.

    Returns:
        Indices ``(n, k)`` int64.
    """
    # Centring does not change distances, and reduces rounding errors.
    center = points.mean(dim=0)
    queries, points = queries - center, points - center
    squares = points.square().sum(dim=1)
    candidates = min(k + _SPARE, len(points))
    rows = max(1, _CHUNK_BYTES // (4 * len(points)))
    return torch.cat(
        [_nearest(chunk, points, squares, candidates, k) for chunk in queries.split(rows)]
    )


def _nearest(queries: Tensor, points: Tensor, squares: Tensor, candidates: int, k: int) -> Tensor:
    distances = torch.addmm(squares, queries, points.T, alpha=-2)
    found = distances.topk(candidates, dim=1, largest=False).indices.sort(dim=1).values
    exact = (points[found].double() - queries[:, None].double()).square().sum(dim=2)
    order = exact.argsort(dim=1, stable=True)[:, :k]
    return found.gather(1, order)


def votes(neighbours: Tensor, labels: Tensor, ks: Sequence[int], num_classes: int) -> list[Tensor]:
    """Count the neighbours' votes for each ``k``.

    Args:
        neighbours: ``(n, max(ks))`` int64 indices, nearest first.
        labels: of the points, ``(m,)`` int64 classes or ``(m, num_classes)`` int64 of 0 and 1.
        ks: numbers of neighbours that vote.
        num_classes: number of classes, or of binary labels.

    Returns:
        For each ``k`` float32 ``(n, num_classes)``: the votes for each class, or for each binary
        label the votes for it minus those against it.
    """
    if labels.ndim == 1:
        labels = functional.one_hot(labels, num_classes)
        counts = labels.to(torch.int32)[neighbours].cumsum(dim=1)
    else:
        counts = (2 * labels - 1).to(torch.int32)[neighbours].cumsum(dim=1)
    return [counts[:, k - 1].float() for k in ks]
