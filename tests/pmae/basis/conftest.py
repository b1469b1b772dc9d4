"""Images to fit bases on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pmae.data.readers.digits import load_digits
from pmae.data.transforms.standardize import pixel_statistics


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """The train split of the digits, standardised: ``(n, 1, 8, 8)``."""
    images = load_digits().train.in_memory().images
    return pixel_statistics([images]).with_floor(0.1).standardize(images / 255)


@pytest.fixture(scope="session")
def decaying() -> tuple[Tensor, Tensor]:
    """3,000 images ``(3000, 400)`` of a known spectrum, and its ratios ``(400,)`` float64.

    Their sample covariance has exactly that spectrum: the left factor is orthonormal and centred.
    """
    noise = torch.Generator().manual_seed(3)
    left = torch.randn(3000, 400, generator=noise, dtype=torch.float64)
    left = torch.linalg.qr(left - left.mean(dim=0))[0]
    right = torch.linalg.qr(torch.randn(400, 400, generator=noise, dtype=torch.float64))[0]
    variances = torch.arange(1, 401, dtype=torch.float64) ** -1.5
    images = left * (3000 * variances).sqrt() @ right.T
    return images.float(), variances / variances.sum()
