"""The two training losses. Both are mean squared errors over what was masked, and only that."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from pmae.basis.basis import Basis
from pmae.patches import patchify
from pmae.transfer import to_device


def masked_component_loss(
    prediction: Tensor, target: Tensor, basis: Basis, masked: Tensor
) -> Tensor:
    """PMAE's loss (arXiv 2502.06314, equation 2), in component space and not whitened.

    ``mean over the batch and the masked components l of ((x_hat V - x V)_l)^2``. With ``V = I``
    and masks of whole patches it is MAE's loss.

    Args:
        prediction: ``x_hat``, ``(batch, channels, height, width)``.
        target: ``x``, standardised, the same shape.
        basis: on the same device.
        masked: bool, True = masked, ``(num_components,)`` or ``(batch, num_components)``.

    Returns:
        A scalar.
    """
    error = (prediction - target).flatten(1)
    if masked.ndim == 1:
        return (error @ basis.masked_components(masked).T).square().mean()
    return _masked_mean(basis.transform(error).square(), masked)


def masked_patch_loss(
    prediction: Tensor, target: Tensor, masked: Tensor, patch_size: int
) -> Tensor:
    """MAE's loss (arXiv 2111.06377, section 3), on standardised pixels.

    Args:
        prediction: ``(batch, channels, height, width)``.
        target: standardised, the same shape.
        masked: bool ``(batch, num_patches)``, True = masked.
        patch_size: edge length in pixels.

    Returns:
        A scalar: the mean over all pixels of masked patches.
    """
    error = patchify(prediction - target, patch_size)
    return _masked_mean(error.square().mean(dim=2), masked)


def _masked_mean(values: Tensor, masked: Tensor) -> Tensor:
    """The mean of ``(batch, n)`` values where ``masked`` is True.

    A product and a sum: picking values out would wait for their number, and add up their gradients
    in an order of its own.
    """
    masked = to_device(masked, values.device)
    return (values * masked).sum() / masked.sum()


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
    """How many images of a batch are classified right.

    Where an image has ``k`` binary labels it counts with the share of them that is right; a label
    is predicted where its probability is above one half. Arguments as of
    :func:`classification_loss`.

    Returns:
        A scalar, float64.
    """
    if labels.ndim == 1:
        return (logits.argmax(dim=1) == labels).double().sum()
    return ((logits > 0) == labels.bool()).double().mean(dim=1).sum()
