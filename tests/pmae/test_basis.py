"""The PCA basis against scikit-learn's, and the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from pmae.basis.basis import Basis
from pmae.basis.pca import fit_pca
from pmae.basis.store import BasisStore, FitKey, read_component, read_spectrum
from pmae.data.digits import load_digits
from pmae.data.standardize import pixel_statistics
from pmae.errors import BasisError

KEY = FitKey(kind="pca", data_digest="d", resolution=8, std_floor=0.1)


def _digits() -> torch.Tensor:
    images = load_digits().train.in_memory().images
    return pixel_statistics([images], 0.1).standardize(images / 255)


def test_it_agrees_with_scikit_learn() -> None:
    images = _digits()
    basis = fit_pca(images.split(100))
    peer = PCA().fit(images.flatten(1).double().numpy())
    np.testing.assert_allclose(
        basis.explained_variance_ratio, peer.explained_variance_ratio_, atol=1e-4
    )
    alignment = np.abs((basis.components.double().numpy() * peer.components_).sum(axis=1))
    varying = peer.explained_variance_ratio_ > 1e-5
    np.testing.assert_allclose(alignment[varying], 1, atol=1e-3)


def test_it_is_orthonormal_ordered_and_the_same_for_any_batching() -> None:
    images = _digits()
    basis, again = fit_pca([images]), fit_pca(images.split(7))
    gram = basis.components @ basis.components.T
    torch.testing.assert_close(gram, torch.eye(64), atol=1e-5, rtol=0)
    ratios = basis.explained_variance_ratio
    assert bool((ratios.diff() <= 0).all())
    assert float(ratios.sum()) == pytest.approx(1)
    torch.testing.assert_close(ratios, again.explained_variance_ratio, atol=1e-6, rtol=0)


def test_constant_pixels_and_few_images_give_no_nan() -> None:
    images = torch.zeros(3, 1, 4, 4)
    images[0, 0, 0, 0] = 1.0
    basis = fit_pca([images])
    assert bool(torch.isfinite(basis.components).all())
    assert basis.explained_variance_ratio[0] == pytest.approx(1)


@pytest.mark.parametrize("batches", [[], [torch.ones(1, 4)], [torch.ones(5, 4)]])
def test_what_has_no_components_is_refused(batches: list[torch.Tensor]) -> None:
    with pytest.raises(BasisError, match=r"at least 2 images|no variance"):
        fit_pca(batches)


def test_a_stored_basis_is_fitted_once_and_read_back(tmp_path: Path) -> None:
    store, fits = BasisStore(tmp_path), []
    basis = fit_pca([_digits()])

    def fit() -> Basis:
        fits.append(1)
        return basis

    digest, first = store.get_or_fit(KEY, 1, fit)
    again, second = store.get_or_fit(KEY, 1, fit)
    assert (digest, len(fits)) == (again, 1)
    assert torch.equal(first.components, second.components)
    spectrum = read_spectrum(tmp_path, digest)
    assert (spectrum.kind, spectrum.num_components) == ("pca", 64)
    component = read_component(tmp_path, digest, 3)
    assert component.shape == (1, 8, 8)
    np.testing.assert_array_equal(component.reshape(-1), basis.components[3])
    with pytest.raises(BasisError, match="0 to 63"):
        read_component(tmp_path, digest, 64)
    with pytest.raises(BasisError, match="cannot be read"):
        store.load("0" * 64)
