"""Reconstruct masked images.

With ``P`` the projection onto the masked components or patches and ``x_hat`` the decoder's image,
the six panels are original ``x``, visible ``x - P x``, target ``P x``, prediction ``P x_hat``, full
``x - P x + P x_hat`` and error ``|x - full|``, all in pixels (de-standardised).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pmae.data.transforms.standardize import PixelStatistics
from pmae.inference.pictures import diverging, intensity
from pmae.methods.base import Method
from pmae.methods.residuals import MeanSquares
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.spec.base import PartsName

PANELS = ("original", "visible", "target", "prediction", "full", "error")


@dataclass(frozen=True)
class Parts:
    """Visible and masked parts of images.

    All but the masks are ``(n, channels, height, width)`` float32, standardised.

    Attributes:
        original: ``x``.
        target: ``P x``.
        prediction: ``P x_hat``.
        masked: bool ``(n, num_total)``, True = masked, and kept by ``P``;
            :func:`pmae.masking.selection_of` lists a row as indices and ranges.
    """

    original: Tensor
    target: Tensor
    prediction: Tensor
    masked: Tensor

    def cpu(self) -> Parts:
        """Copy to the CPU."""
        tensors = (self.original, self.target, self.prediction, self.masked)
        return Parts(*(tensor.cpu() for tensor in tensors))

    @property
    def visible(self) -> Tensor:
        """``x - P x``."""
        return self.original - self.target

    @property
    def full(self) -> Tensor:
        """``x - P x + P x_hat``."""
        return self.visible + self.prediction


@dataclass(frozen=True)
class ReconstructionResult:
    """Reconstructions of images under one draw of masks.

    Attributes:
        panels: by name (:data:`PANELS`), each ``(n, height, width, 3)`` uint8.
        labels: name of each image's class or labels; None: unknown.
        masked_error: mean squared error of each image over its masked part.
        mean_squares: of each component or patch of each image.
        ratio: mask ratio as requested; None if there is none.
        masked_share: fraction of the variance, or of the patches, that was masked.
        num_masked: components or patches masked in the first image.
        num_total: components or patches there are.
        parts_name: ``components`` or ``patches``.
    """

    panels: dict[str, np.ndarray]
    labels: list[str] | None
    masked_error: list[float]
    mean_squares: MeanSquares
    ratio: float | None
    masked_share: float
    num_masked: int
    num_total: int
    parts_name: PartsName


@torch.no_grad()
def reconstruct(
    model: MaskedAutoencoder, method: Method, images: Tensor, masked: Tensor
) -> tuple[Parts, MeanSquares]:
    """Reconstruct any images under any mask.

    Args:
        model: in eval mode.
        method: on the model's device.
        images: ``(n, channels, height, width)``, standardised.
        masked: bool, True = masked: ``(num_total,)`` or ``(n, num_total)``.

    Returns:
        The parts, and the mean squares of each component or patch.
    """
    batch = method.project(images, masked)
    prediction, _ = method.predict(model, batch)
    residual, target = method.mean_squares(prediction, batch)
    parts = Parts(
        original=images,
        target=method.masked_projection(images, masked),
        prediction=method.masked_projection(method.standardized(prediction, batch), masked),
        masked=masked.expand_as(residual),
    )
    return parts, MeanSquares(residual, target, parts.masked, method.bands)


def panels(parts: Parts, statistics: PixelStatistics) -> dict[str, np.ndarray]:
    """Draw the parts as :data:`PANELS`, each ``(n, height, width, 3)`` uint8.

    Args:
        parts: on the CPU.
        statistics: that the parts are standardised by.
    """

    def pixels(standardized: Tensor) -> np.ndarray:
        return statistics.destandardize(standardized).numpy()

    def deviation(standardized: Tensor) -> np.ndarray:
        values: np.ndarray = (standardized * statistics.std).numpy()
        return values

    target, prediction = deviation(parts.target), deviation(parts.prediction)
    limit = np.abs(target).max(axis=(1, 2, 3))
    error = np.abs(pixels(parts.original) - pixels(parts.full))
    return {
        "original": intensity(pixels(parts.original)),
        "visible": intensity(pixels(parts.visible)),
        "target": diverging(target, limit),
        "prediction": diverging(prediction, limit),
        "full": intensity(pixels(parts.full)),
        "error": intensity(error.mean(axis=1, keepdims=True)),
    }
