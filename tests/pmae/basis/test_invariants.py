"""What holds for every basis, whatever the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.basis.fixed import fit_dct, fit_random
from pmae.basis.kernel import fit_kernel
from pmae.basis.pca import fit_pca, fit_randomized_pca
from pmae.errors import BasisError

Fit = Callable[[Iterable[Tensor]], Basis]
SHAPE = (2, 3, 4)
PIXELS = 24


def _randomized(batches: Iterable[Tensor]) -> Basis:
    held = list(batches)
    noise = torch.Generator().manual_seed(0)
    return fit_randomized_pca(lambda: held, num_components=1, generator=noise)


FITS: dict[str, Fit] = {
    "pca": fit_pca,
    "pca, truncated": lambda batches: fit_pca(batches, num_components=5),
    "randomized": _randomized,
    "dct": lambda batches: fit_dct(batches, SHAPE),
    "random": lambda batches: fit_random(batches, PIXELS, PIXELS, torch.Generator().manual_seed(0)),
    "random, truncated": lambda batches: fit_random(
        batches, PIXELS, 7, torch.Generator().manual_seed(0)
    ),
    "kernel": fit_kernel,
}


def _images(count: int, rank: int, constant: int, seed: int) -> Tensor:
    """Images of ``rank`` directions, some pixels constant, the first image twice."""
    noise = torch.Generator().manual_seed(seed)
    images = torch.randn(count, rank, generator=noise) @ torch.randn(rank, PIXELS, generator=noise)
    images[:, :constant] = 1.5
    images[-1] = images[0]
    return images.view(count, *SHAPE)


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(FITS)),
    count=st.integers(3, 40),
    rank=st.integers(1, 24),
    constant=st.integers(0, 20),
    seed=st.integers(0, 1000),
    split=st.integers(1, 17),
)
def test_it_is_orthonormal_ordered_finite_and_the_same_for_any_batching(
    name: str, count: int, rank: int, constant: int, seed: int, split: int
) -> None:
    images = _images(count, rank, constant, seed)
    basis, again = FITS[name]([images]), FITS[name](images.split(split))
    assert torch.equal(basis.components, again.components)
    assert torch.equal(basis.explained_variance_ratio, again.explained_variance_ratio)
    gram = basis.components @ basis.components.T
    torch.testing.assert_close(gram, torch.eye(basis.num_components), atol=1e-5, rtol=0)
    ratios = basis.explained_variance_ratio
    assert ratios.dtype == torch.float64
    assert bool((ratios >= 0).all())
    assert bool((ratios.diff() <= 0).all())
    if basis.num_components == PIXELS:
        assert float(ratios.sum()) == pytest.approx(1, abs=1e-5)
        back = basis.inverse_transform(basis.transform(images))
        torch.testing.assert_close(back, images.flatten(1), atol=1e-4, rtol=1e-4)
    else:
        assert float(ratios.sum()) < 1 + 1e-5
    flat = images.flatten(1).double()
    shares = basis.transform(images).double().var(dim=0, correction=0)
    shares /= (flat - flat.mean(dim=0)).square().mean(dim=0).sum()
    torch.testing.assert_close(ratios, shares, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([], "at least 2 images, got 0"),
        ([torch.ones(1, *SHAPE)], "at least 2 images, got 1"),
        ([torch.ones(5, *SHAPE)], "no variance"),
        ([torch.full((5, *SHAPE), float("nan"))], "not finite"),
        ([torch.full((5, *SHAPE), float("inf"))], "not finite"),
    ],
)
def test_what_has_no_components_is_refused(name: str, images: list[Tensor], reason: str) -> None:
    with pytest.raises(BasisError, match=reason):
        FITS[name](images)


@pytest.mark.parametrize("name", FITS)
def test_images_that_differ_in_one_pixel(name: str) -> None:
    images = torch.zeros(3, *SHAPE)
    images[0, 0, 0, 0] = 1.0
    basis = FITS[name]([images])
    assert bool(torch.isfinite(basis.components).all())
    assert bool(torch.isfinite(basis.explained_variance_ratio).all())
