"""Matrix factorisations for fitting bases."""

from __future__ import annotations

import torch
from torch import Tensor


def eigenvectors(symmetric: Tensor, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Compute eigenvalues in descending order, and their eigenvectors with fixed signs.

    Args:
        symmetric: ``(n, n)``; only the upper triangle is read.
        count: number of the largest to return; default: all.

    Returns:
        ``(count,)`` float64 and ``(count, n)``, orthonormal rows.
    """
    values, columns = torch.linalg.eigh(symmetric, UPLO="U")
    kept = len(values) if count is None else count
    rows = columns.mT[len(values) - kept :].flip(0).contiguous()
    return values.double().flip(0)[:kept], fix_signs(rows)


def fix_signs(rows: Tensor) -> Tensor:
    """Flip rows, in place, so that each one's entry of largest magnitude is positive.

    The sign of a component is arbitrary; fixing it makes the fit reproducible.
    """
    low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
    return rows.mul_(torch.where(-low > high, -1.0, 1.0))


def orthonormal_columns(matrix: Tensor) -> Tensor:
    """Orthonormalise: the ``Q`` of ``QR``, signed so that the diagonal of ``R`` is positive.

    For a Gaussian matrix that is a draw from the uniform (Haar) distribution (Mezzadri,
    arXiv math-ph/0609050). Unlike a Cholesky factorisation of the Gram matrix, it gives orthonormal
    columns even where the given ones are linearly dependent.

    Args:
        matrix: ``(n, k)`` with ``k <= n``.

    Returns:
        ``(n, k)``.
    """
    q, r = torch.linalg.qr(matrix)
    signs = torch.where(r.diagonal() < 0, -1.0, 1.0)
    columns: Tensor = q.mul_(signs)
    return columns


def mirror(upper: Tensor) -> Tensor:
    """Fill the lower triangle from the upper one, in place, block by block."""
    size, step = len(upper), 1024
    for start in range(0, size, step):
        stop = min(start + step, size)
        upper[stop:, start:stop] = upper[start:stop, stop:].T
        block = upper[start:stop, start:stop]
        block.copy_(block.triu() + block.triu(1).T)
    return upper
