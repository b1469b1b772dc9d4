"""The two training losses. Both are mean squared errors over what was masked, and only that."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PATCH_EPSILON = 1e-6
"""Added to the variance of a patch, as in MAE's public code."""


def masked_component_loss(
    error: Tensor, masked: Tensor | None, mean_eigenvalue: Tensor | None = None
) -> Tensor:
    """PMAE's loss (arXiv 2502.06314, equation 2), in component space and not whitened.

    ``mean over the batch and the masked components l of ((x_hat V - x V)_l)^2``, or of that over
    the mean eigenvalue of the image's masked components. With ``V = I`` and masks of whole patches
    it is MAE's loss.

    Args:
        error: ``(x_hat - x) V``, ``(batch, k)`` fp32.
        masked: bool ``(batch, k)``, True = masked; None: all ``k``, in every image.
        mean_eigenvalue: a scalar, or ``(batch, 1)``; default: 1.

    Returns:
        A scalar.
    """
    squares = error.square()
    if mean_eigenvalue is not None:
        squares = squares / mean_eigenvalue
    return squares.mean() if masked is None else _masked_mean(squares, masked)


def masked_patch_loss(error: Tensor, masked: Tensor) -> Tensor:
    """MAE's loss (arXiv 2111.06377, section 3).

    Args:
        error: prediction minus target, ``(batch, num_patches, patch_dim)`` fp32.
        masked: bool ``(batch, num_patches)``, True = masked.

    Returns:
        A scalar: the mean over all pixels of masked patches.
    """
    return _masked_mean(error.square().mean(dim=2), masked)


def _masked_mean(values: Tensor, masked: Tensor) -> Tensor:
    """The mean of ``(batch, n)`` values where ``masked`` is True.

    A product and a sum: picking values out would wait for their number, and add up their gradients
    in an order of its own.
    """
    return (values * masked).sum() / masked.sum()


def patch_moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, by which ``norm_pix_loss`` normalises it.

    The variance is the unbiased one plus :data:`PATCH_EPSILON`, as in MAE's public code.

    Args:
        patches: ``(batch, num_patches, patch_dim)``.

    Returns:
        Two of ``(batch, num_patches, 1)``.
    """
    variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
    return mean, (variance + PATCH_EPSILON).sqrt()


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of a classifier, or the mean binary cross-entropy of ``k`` labels.

    Args:
        logits: ``(batch, num_classes)`` float.
        labels: ``(batch,)`` int64 classes, or ``(batch, num_classes)`` int64 of 0 and 1.

    Returns:
        A scalar.
    """
    if labels.ndim == 1:
        return functional.cross_entropy(logits, labels)
    return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def correct_predictions(logits: Tensor, labels: Tensor) -> Tensor:
    """Count the images of a batch that are classified right.

    An image with ``k`` binary labels counts with the fraction of them that is right; a label is
    predicted where its probability is above one half. Arguments as of
    :func:`classification_loss`.

    Returns:
        A scalar, float64.
    """
    if labels.ndim == 1:
        return (logits.argmax(dim=1) == labels).double().sum()
    return ((logits > 0) == labels.bool()).double().mean(dim=1).sum()
