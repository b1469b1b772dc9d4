"""Kernel basis: the eigenvectors of an RBF kernel between pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.basis.covariance import Covariance, covariance
from pmae.basis.fixed import by_variance
from pmae.basis.linalg import eigenvectors, mirror
from pmae.basis.stream import CoordinateVariances

_MIN_DISTANCE = 1e-6
"""Pixels count as equal below this fraction of the maximal squared distance."""
_ROWS = 1024


def fit_kernel(
    batches: Iterable[Tensor],
    *,
    bandwidth: float | None = None,
    num_components: int | None = None,
) -> Basis:
    """Compute the eigenvectors of the centred RBF kernel between pixels, by descending variance.

    The kernel is ``K_ij = exp(-d_ij^2 / (2 bandwidth^2))``, with ``d_ij^2`` the mean over the
    images of the squared difference of pixels ``i`` and ``j``. Distances and variances both follow
    from the covariance and the mean, so one pass over the images is enough.

    Args:
        batches: standardised images, as in :func:`pmae.basis.pca.fit_pca`.
        bandwidth: in units of ``d``; default: the median of ``d_ij`` over the pairs of pixels that
            differ.
        num_components: number to keep, of the largest variance; default: all.

    Raises:
        BasisError: fewer than two images, no variance at all, or values that are not finite.
    """
    facts = covariance(batches)
    mirror(facts.matrix)
    kernel = squared_distances(facts)
    if bandwidth is None:
        bandwidth = median_distance(kernel)
    kernel.mul_(-1 / (2 * bandwidth**2)).exp_()
    _, components = eigenvectors(_centred(kernel))
    del kernel
    variances = torch.cat(
        [
            ((part @ facts.matrix) * part).sum(dim=1, dtype=torch.float64)
            for part in components.split(_ROWS)
        ]
    ).clamp(min=0)
    total = float(facts.matrix.diagonal().double().sum())
    basis = by_variance(components, CoordinateVariances(variances, total))
    return basis.first(num_components)


def squared_distances(facts: Covariance) -> Tensor:
    """Compute ``d_ij^2 = C_ii + C_jj - 2 C_ij + (m_i - m_j)^2``.

    Args:
        facts: with both triangles of the matrix filled.

    Returns:
        ``(num_pixels, num_pixels)`` float32.
    """
    variances, means = facts.matrix.diagonal(), facts.mean.float()
    distances = facts.matrix * -2
    distances += variances
    distances += variances[:, None]
    for start in range(0, len(means), _ROWS):  # by rows: no second matrix for the differences
        distances[start : start + _ROWS] += (means[start : start + _ROWS, None] - means).square()
    distances.fill_diagonal_(0)
    return distances.clamp_(min=0)


def median_distance(squared: Tensor) -> float:
    """The median distance of the pairs of pixels that differ, or 1 if there are none."""
    distinct = squared[squared > _MIN_DISTANCE * squared.max()]
    return math.sqrt(float(distinct.median())) if len(distinct) else 1.0


def _centred(kernel: Tensor) -> Tensor:
    """Centre in place: ``H K H`` with ``H = I - 1/n``."""
    means = kernel.mean(dim=0, dtype=torch.float64)
    kernel -= means.float()
    kernel -= (means - means.mean()).float()[:, None]
    return kernel
