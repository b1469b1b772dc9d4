"""Principal components: all, exactly, or the first ones by a randomised method."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.basis.covariance import covariance
from pmae.basis.linalg import eigenvectors, fix_signs, orthonormal_columns
from pmae.basis.stream import check_count, check_total, chunks
from pmae.errors import BasisError

PASSES = 4
"""Passes of the randomised method; all but the last multiply the sketch by the covariance."""
OVERSAMPLING = 32
"""Directions of the sketch in addition to the components that are kept."""


def fit_pca(batches: Iterable[Tensor], *, num_components: int | None = None) -> Basis:
    """Compute the eigenvectors of the covariance: one pass over the images, then ``eigh``.

    Eigenvalues descend, and the entry of largest magnitude of each component is positive. Constant
    pixels, or fewer images than pixels, give components of zero variance, not NaN.

    Args:
        batches: standardised images, each ``(batch, ...)`` float32 with the same pixel count, on
            the device that computes.
        num_components: number of the first ones to keep; default: all.

    Raises:
        BasisError: fewer than two images, no variance at all, or values that are not finite.
    """
    matrix = covariance(batches).matrix
    total = matrix.diagonal().double().sum()
    variances, components = eigenvectors(matrix, num_components)
    variances = variances.clamp(min=0)
    if len(components) == components.shape[1]:
        total = variances.sum()
    return Basis(components.cpu(), (variances / total).cpu())


def fit_randomized_pca(
    batches: Callable[[], Iterable[Tensor]], *, num_components: int, generator: torch.Generator
) -> Basis:
    """Compute the first principal components by subspace iteration, in four passes.

    Halko, Martinsson and Tropp (arXiv 0909.4061), algorithm 4.4, on the covariance: a Gaussian
    sketch is repeatedly multiplied by it and orthonormalised; the last pass diagonalises the
    covariance within the span of the sketch. Needs a few matrices of
    ``num_pixels * num_components`` values, never one of ``num_pixels`` squared.

    The explained variance ratios are fractions of the total variance of the same images, so they
    sum to less than 1.

    Args:
        batches: returns the same standardised images at each call, as in :func:`fit_pca`.
        num_components: number to keep, fewer than there are images.
        generator: of the sketch.

    Raises:
        BasisError: fewer than two images, too few for the components, no variance at all, or values
            that are not finite.
    """
    sketch, mean, total, count = _first_pass(batches(), num_components, generator)
    if num_components > min(count - 1, len(mean)):
        raise BasisError(
            f"{count} images of {len(mean)} pixels span at most {min(count - 1, len(mean))} "
            f"components, {num_components} were asked for; lower basis.num_components"
        )
    for _ in range(PASSES - 2):
        directions = orthonormal_columns(sketch)
        sketch.zero_()
        for chunk in chunks(batches()):
            chunk -= mean
            sketch.addmm_(chunk.T, chunk @ directions)
    directions = orthonormal_columns(sketch)
    del sketch
    width = directions.shape[1]
    within = torch.zeros(width, width, dtype=torch.float64, device=directions.device)
    for chunk in chunks(batches()):
        chunk -= mean
        coordinates = chunk @ directions
        within += coordinates.T @ coordinates
    variances, rotation = eigenvectors(within / count, num_components)
    components = fix_signs(rotation.float() @ directions.T)
    return Basis(components.cpu(), (variances.clamp(min=0) / total).cpu())


def _first_pass(
    batches: Iterable[Tensor], num_components: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, float, int]:
    """Sketch the covariance, and measure mean image, total variance and number of images.

    The sketch is the product with a Gaussian matrix, not divided by the number of images: its span
    is the same.
    """
    count, squares = 0, 0.0
    shift = gaussian = sketch = total = None
    for chunk in chunks(batches):
        if shift is None or gaussian is None or sketch is None or total is None:
            size = chunk.shape[1]
            width = min(num_components + OVERSAMPLING, size)
            shift = chunk.mean(dim=0)
            gaussian = torch.randn(size, width, generator=generator).to(chunk.device)
            sketch = torch.zeros_like(gaussian)
            total = torch.zeros(size, dtype=torch.float64, device=chunk.device)
        chunk -= shift
        sketch.addmm_(chunk.T, chunk @ gaussian)
        total += chunk.sum(dim=0, dtype=torch.float64)
        squares += float(chunk.square().sum(dim=1).sum(dtype=torch.float64))
        count += len(chunk)
    check_count(count)
    assert shift is not None
    assert gaussian is not None
    assert sketch is not None
    assert total is not None
    mean = total / count
    variance = squares / count - float(mean.square().sum())
    check_total(variance)
    near = mean.float()
    sketch.addr_(near, near @ gaussian, alpha=-count)
    return sketch, near + shift, variance, count
