"""Principal components of any number of images, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.errors import BasisError


def fit_pca(batches: Iterable[Tensor], *, device: torch.device | None = None) -> Basis:
    """The eigenvectors of the covariance, exact: one pass over the images, then ``eigh``.

    Products are summed in float64, so that adding up many batches loses nothing. Components are
    the covariance's eigenvectors by falling eigenvalue, each with its largest entry positive, so
    that the same covariance gives the same signs. Pixels that never change give components without
    variance, not NaN.

    Args:
        batches: standardised images, each ``(batch, ...)`` float32 with the same pixel count.
        device: where the products and ``eigh`` run; default: the CPU.

    Raises:
        BasisError: fewer than two images, no variance at all, or values that are not finite.
    """
    count, total, products = 0, None, None
    for batch in batches:
        flat = batch.flatten(1).to(device=device, dtype=torch.float32)
        if total is None or products is None:
            total = torch.zeros(flat.shape[1], dtype=torch.float64, device=flat.device)
            products = torch.zeros(
                flat.shape[1], flat.shape[1], dtype=torch.float64, device=flat.device
            )
        count += len(flat)
        total += flat.sum(dim=0, dtype=torch.float64)
        products += flat.T @ flat
    if total is None or products is None or count < 2:
        raise BasisError(f"PCA needs at least 2 images, got {count}")
    mean = total / count
    covariance = products.div_(count).sub_(torch.outer(mean, mean))
    if not bool(torch.isfinite(covariance).all()):
        raise BasisError("PCA met pixels that are not finite")
    return _basis_of_covariance(covariance.float().cpu() if device is None else covariance.float())


def _basis_of_covariance(covariance: Tensor) -> Basis:
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    variances = eigenvalues.flip(0).double().clamp(min=0).cpu()
    if not float(variances.sum()) > 0:
        raise BasisError("all images are the same: there is no variance to split into components")
    components = eigenvectors.flip(1).T.contiguous().cpu()
    return Basis(_with_fixed_signs(components), variances / variances.sum())


def _with_fixed_signs(components: Tensor) -> Tensor:
    largest = components.abs().argmax(dim=1, keepdim=True)
    return components * torch.sign(components.gather(1, largest))
