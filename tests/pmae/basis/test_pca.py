"""Exact and randomised PCA against scikit-learn, LAPACK and a known spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, IncrementalPCA
from torch import Tensor

from pmae.basis import covariance as covariance_module
from pmae.basis.covariance import covariance
from pmae.basis.pca import fit_pca, fit_randomized_pca
from pmae.errors import BasisError


def _assert_aligned(components: Tensor, peer: np.ndarray, ratios: np.ndarray) -> None:
    """Equal up to signs where neighbouring eigenvalues are apart, which decides a direction."""
    gaps = np.minimum(-np.diff(ratios, append=0), -np.diff(ratios, prepend=np.inf))
    apart = gaps > 1e-5
    assert apart.sum() > len(ratios) // 2
    alignment = np.abs((components.double().numpy() * peer).sum(axis=1))
    np.testing.assert_allclose(alignment[apart], 1, atol=1e-3)


def test_it_agrees_with_scikit_learn(digits: Tensor) -> None:
    basis = fit_pca(digits.split(100))
    peer = PCA().fit(digits.flatten(1).double().numpy())
    ratios = peer.explained_variance_ratio_
    np.testing.assert_allclose(basis.explained_variance_ratio, ratios, atol=1e-4)
    _assert_aligned(basis.components, peer.components_, ratios)


def test_it_agrees_with_incremental_pca(digits: Tensor) -> None:
    basis = fit_pca(digits.split(200))
    peer = IncrementalPCA(batch_size=200).fit(digits.flatten(1).double().numpy())
    np.testing.assert_allclose(
        basis.explained_variance_ratio, peer.explained_variance_ratio_, atol=1e-4
    )
    _assert_aligned(basis.components, peer.components_, peer.explained_variance_ratio_)


def test_images_far_from_zero_lose_nothing(digits: Tensor) -> None:
    basis, shifted = fit_pca([digits]), fit_pca([digits + 300])
    torch.testing.assert_close(
        basis.explained_variance_ratio, shifted.explained_variance_ratio, atol=1e-5, rtol=0
    )


def test_components_of_many_images_are_summed_in_float64(
    digits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pmae.basis.stream._CHUNK_VALUES", 64 * 300)
    plain = covariance([digits]).matrix.triu()
    monkeypatch.setattr(covariance_module, "_FOLD_IMAGES", 500)
    folded = covariance([digits]).matrix.triu()
    assert not torch.equal(plain, folded), "nothing was folded"
    exact = torch.cov(digits.flatten(1).double().T, correction=0).triu().float()
    torch.testing.assert_close(folded, exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain, exact, atol=1e-5, rtol=1e-5)


def test_more_pixels_than_a_block_of_products() -> None:
    images = torch.randn(50, 1100, generator=torch.Generator().manual_seed(0))
    matrix = covariance(images.split(20)).matrix.triu()
    exact = torch.cov(images.double().T, correction=0).triu().float()
    torch.testing.assert_close(matrix, exact, atol=1e-5, rtol=1e-5)


def test_a_truncated_basis_has_shares_of_the_total_variance(digits: Tensor) -> None:
    whole, kept = fit_pca([digits]), fit_pca([digits], num_components=10)
    assert kept.components.shape == (10, 64)
    torch.testing.assert_close(kept.components, whole.components[:10])
    torch.testing.assert_close(
        kept.explained_variance_ratio, whole.explained_variance_ratio[:10], atol=1e-6, rtol=0
    )
    assert kept.spanned_variance < 0.9


def test_the_same_images_give_the_same_bits(digits: Tensor) -> None:
    assert torch.equal(fit_pca([digits]).components, fit_pca([digits]).components)


def test_the_randomised_method_finds_the_known_spectrum(decaying: tuple[Tensor, Tensor]) -> None:
    images, ratios = decaying
    noise = torch.Generator().manual_seed(0)
    basis = fit_randomized_pca(lambda: images.split(170), num_components=40, generator=noise)
    np.testing.assert_allclose(basis.explained_variance_ratio, ratios[:40], atol=1e-5)
    assert basis.spanned_variance == pytest.approx(float(ratios[:40].sum()), abs=1e-4)
    exact = fit_pca([images], num_components=40)
    alignment = (basis.components * exact.components).sum(dim=1)
    torch.testing.assert_close(alignment[:20], torch.ones(20), atol=1e-3, rtol=0)
    gram = basis.components @ basis.components.T
    torch.testing.assert_close(gram, torch.eye(40), atol=1e-5, rtol=0)


def test_the_randomised_method_is_seeded_and_centres(decaying: tuple[Tensor, Tensor]) -> None:
    images, _ = decaying

    def fit(images: Tensor, seed: int, batch: int) -> Tensor:
        noise = torch.Generator().manual_seed(seed)
        basis = fit_randomized_pca(lambda: images.split(batch), num_components=8, generator=noise)
        return basis.components

    assert torch.equal(fit(images, 0, 100), fit(images, 0, 33))
    assert not torch.equal(fit(images, 0, 100), fit(images, 1, 100))
    torch.testing.assert_close(fit(images, 0, 100), fit(images + 20, 0, 100), atol=1e-3, rtol=0)


def test_fewer_directions_than_the_sketch_has_do_no_harm() -> None:
    """Cholesky of the sketch's Gram matrix would fail here."""
    images = torch.zeros(50, 300)
    images[:, :3] = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)
    basis = fit_randomized_pca(lambda: [images], num_components=20, generator=noise)
    gram = basis.components @ basis.components.T
    torch.testing.assert_close(gram, torch.eye(20), atol=1e-5, rtol=0)
    assert basis.spanned_variance == pytest.approx(1)
    assert float(basis.explained_variance_ratio[3:].sum()) < 1e-6


def test_more_components_than_the_images_span_are_refused() -> None:
    images = torch.randn(10, 30, generator=torch.Generator().manual_seed(0))
    with pytest.raises(BasisError, match="span at most 9 components, 10 were asked for"):
        fit_randomized_pca(lambda: [images], num_components=10, generator=torch.Generator())
