"""The cosine transform against SciPy, and the random rotation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from pmae.basis.fixed import fit_dct, fit_random

SHAPE = (3, 6, 4)


def _images() -> Tensor:
    return torch.randn(80, *SHAPE, generator=torch.Generator().manual_seed(0)).cumsum(dim=-1)


def test_the_cosine_transform_is_scipys_by_falling_variance() -> None:
    images = _images()
    basis = fit_dct(images.split(30), SHAPE)
    peer = dctn(images.double().numpy(), type=2, norm="ortho", axes=(-2, -1)).reshape(80, -1)
    variances = peer.var(axis=0)
    order = np.argsort(-variances, kind="stable")
    np.testing.assert_allclose(
        basis.explained_variance_ratio, variances[order] / variances.sum(), atol=1e-6
    )
    np.testing.assert_allclose(basis.transform(images), peer[:, order], atol=1e-4)


def test_a_truncated_transform_keeps_the_cosines_of_the_greatest_variance() -> None:
    images = _images()
    whole, kept = fit_dct([images], SHAPE), fit_dct([images], SHAPE, num_components=5)
    assert torch.equal(kept.components, whole.components[:5])
    assert torch.equal(kept.explained_variance_ratio, whole.explained_variance_ratio[:5])


def test_the_rotation_is_drawn_uniformly_and_measured(digits: Tensor) -> None:
    def fit(seed: int, count: int = 64) -> Tensor:
        return fit_random([digits], 64, count, torch.Generator().manual_seed(seed)).components

    assert torch.equal(fit(0), fit(0))
    assert not torch.equal(fit(0), fit(1))
    assert fit(0, 7).shape == (7, 64)
    basis = fit_random(digits.split(77), 64, 64, torch.Generator().manual_seed(0))
    variances = basis.transform(digits).double().var(dim=0, correction=0)
    total = digits.flatten(1).double().var(dim=0, correction=0).sum()
    torch.testing.assert_close(
        basis.explained_variance_ratio, variances / total, atol=1e-6, rtol=1e-4
    )
    spread = torch.cat([fit(seed) for seed in range(20)]).square().mean(dim=0)
    assert float((spread * 64).max()) == pytest.approx(1, abs=0.2), "no pixel is preferred"
