"""Data-independent bases: the cosine transform and a random rotation.

The images determine only the components' variances, and so their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.basis.linalg import fix_signs, orthonormal_columns
from pmae.basis.stream import CoordinateVariances, coordinate_variances


def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II: ``(size, size)`` float64, row ``k`` the cosine of frequency ``k``."""
    position = torch.arange(size, dtype=torch.float64) + 0.5
    frequency = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * frequency[:, None] * position)
    matrix *= math.sqrt(2 / size)
    matrix[0] = math.sqrt(1 / size)
    return matrix


def fit_dct(
    batches: Iterable[Tensor],
    image_shape: tuple[int, int, int],
    *,
    num_components: int | None = None,
) -> Basis:
    """Order the two-dimensional cosines of each channel by descending variance.

    The first ``num_components`` are kept; of equal variances the lower frequency comes first. The
    separable transform computes the coordinates, without a matrix of ``num_pixels`` squared.

    Args:
        batches: standardised images, as in :func:`pmae.basis.pca.fit_pca`.
        image_shape: ``(channels, height, width)``.
        num_components: number to keep; default: all.

    Raises:
        BasisError: fewer than two images, no variance at all, or values that are not finite.
    """
    channels, height, width = image_shape
    rows, columns = dct_matrix(height).float(), dct_matrix(width).float()

    def transform(images: Tensor) -> Tensor:
        return (rows @ images.view(-1, channels, height, width) @ columns.T).flatten(1)

    measured = coordinate_variances(batches, transform)
    order = measured.variances.argsort(descending=True, stable=True)[:num_components]
    channel = order // (height * width)
    vertical, horizontal = order // width % height, order % width
    components = torch.zeros(len(order), channels, height, width)
    components[torch.arange(len(order)), channel] = (
        rows[vertical][:, :, None] * columns[horizontal][:, None, :]
    )
    return Basis(components.flatten(1), measured.variances[order] / measured.total)


def fit_random(
    batches: Iterable[Tensor], num_pixels: int, num_components: int, generator: torch.Generator
) -> Basis:
    """Draw orthonormal directions uniformly and order them by descending variance.

    Args:
        batches: standardised images, as in :func:`pmae.basis.pca.fit_pca`.
        num_pixels: of an image.
        num_components: number of directions; ``num_pixels`` of them are a rotation.
        generator: on the CPU.

    Raises:
        BasisError: fewer than two images, no variance at all, or values that are not finite.
    """
    drawn = torch.randn(num_pixels, num_components, generator=generator)
    components = fix_signs(orthonormal_columns(drawn).T.contiguous())
    del drawn
    measured = coordinate_variances(batches, lambda images: images @ components.T)
    return by_variance(components, measured)


def by_variance(components: Tensor, measured: CoordinateVariances) -> Basis:
    """Order orthonormal ``components`` ``(k, num_pixels)`` by descending variance."""
    order = measured.variances.argsort(descending=True, stable=True)
    return Basis(components[order], measured.variances[order] / measured.total)
