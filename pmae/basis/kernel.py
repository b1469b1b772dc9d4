"""The eigenvectors of a kernel between pixels."""

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

_APART = 1e-6
"""Pixels nearer than this share of the greatest squared distance count as equal: never changing."""
_ROWS = 1024


def fit_kernel(
    batches: Iterable[Tensor],
    *,
    bandwidth: float | None = None,
    num_components: int | None = None,
) -> Basis:
    """The eigenvectors of the centred RBF kernel between pixels, by falling variance.

    With ``d_ij^2`` the mean over the images of the squared difference of pixels ``i`` and ``j``,
    the kernel is ``K_ij = exp(-d_ij^2 / (2 bandwidth^2))``. Its distances come from the covariance
    and the mean, as do the variances of the components: one pass over the images is enough.

    Args:
        batches: standardised images, as of :func:`pmae.basis.pca.fit_pca`.
        bandwidth: in units of ``d``; default: the median of ``d_ij`` over the pairs of pixels that
            differ.
        num_components: how many of the greatest variance to keep; default: all.

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
    """``d_ij^2 = C_ii + C_jj - 2 C_ij + (m_i - m_j)^2``, ``(num_pixels, num_pixels)`` float32.

    Args:
        facts: with the whole matrix filled.
    """
    variances, means = facts.matrix.diagonal(), facts.mean.float()
    distances = facts.matrix * -2
    distances += variances
    distances += variances[:, None]
    for start in range(0, len(means), _ROWS):  # no second matrix for the means' differences
        distances[start : start + _ROWS] += (means[start : start + _ROWS, None] - means).square()
    distances.fill_diagonal_(0)
    return distances.clamp_(min=0)


def median_distance(squared: Tensor) -> float:
    """The median distance of the pairs of pixels that differ, or 1 if none does."""
    apart = squared[squared > _APART * squared.max()]
    return math.sqrt(float(apart.median())) if len(apart) else 1.0


def _centred(kernel: Tensor) -> Tensor:
    """``H K H`` with ``H = I - 1/n``, in place."""
    means = kernel.mean(dim=0, dtype=torch.float64)
    kernel -= means.float()
    kernel -= (means - means.mean()).float()[:, None]
    return kernel
