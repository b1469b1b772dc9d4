"""The kernel basis against scikit-learn's RBF kernel and its centring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.preprocessing import KernelCenterer
from torch import Tensor

from pmae.basis.covariance import covariance
from pmae.basis.kernel import fit_kernel, median_distance, squared_distances
from pmae.basis.linalg import mirror


def _pixels(images: Tensor) -> np.ndarray:
    table: np.ndarray = images.flatten(1).double().numpy().T
    return table


@pytest.mark.parametrize("bandwidth", [0.7, None])
def test_it_agrees_with_scikit_learn(digits: Tensor, bandwidth: float | None) -> None:
    pixels = _pixels(digits)
    distances = euclidean_distances(pixels) / np.sqrt(pixels.shape[1])
    sigma = bandwidth or float(np.median(distances[distances > 1e-3]))
    kernel = rbf_kernel(pixels, gamma=1 / (2 * sigma**2 * pixels.shape[1]))
    centred = KernelCenterer().fit_transform(kernel)
    basis = fit_kernel(digits.split(123), bandwidth=bandwidth)
    V = basis.components.double().numpy()
    eigenvalues = np.diag(V @ centred @ V.T)
    np.testing.assert_allclose(
        np.sort(eigenvalues), np.linalg.eigvalsh(centred), atol=1e-3 * eigenvalues.max()
    )
    np.testing.assert_allclose(V @ centred, eigenvalues[:, None] * V, atol=1e-3)


def test_its_ratios_are_the_train_sets_variance(digits: Tensor) -> None:
    basis = fit_kernel([digits])
    variances = basis.transform(digits).double().var(dim=0, correction=0)
    torch.testing.assert_close(
        basis.explained_variance_ratio, variances / variances.sum(), atol=1e-5, rtol=1e-3
    )
    kept = fit_kernel([digits], num_components=6)
    assert torch.equal(kept.components, basis.components[:6])


def test_distances_hold_for_images_that_are_not_centred(digits: Tensor) -> None:
    images = digits[:100] + torch.arange(64).view(8, 8) / 10
    facts = covariance([images])
    mirror(facts.matrix)
    pixels = _pixels(images)
    peer = euclidean_distances(pixels, squared=True) / pixels.shape[1]
    np.testing.assert_allclose(squared_distances(facts), peer, atol=1e-3, rtol=1e-3)


def test_the_median_counts_each_pair_that_differs_once() -> None:
    squared = torch.tensor([[0.0, 0.0, 4.0], [0.0, 0.0, 9.0], [4.0, 9.0, 0.0]])
    assert median_distance(squared) == pytest.approx(2)
    assert median_distance(torch.zeros(3, 3)) == 1
