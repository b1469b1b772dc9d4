"""Invariants of masks, over random spectra, ratios and seeds."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pmae.basis.basis import Basis
from pmae.basis.projection import Projection
from pmae.masking import (
    draw_ratios,
    num_masked_for_ratio,
    random_component_mask,
    random_patch_mask,
    visible_indices,
)

ratios = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**31 - 1)
spectra = st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=40)


def _spectrum(values: list[float]) -> torch.Tensor:
    spectrum = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    return spectrum / spectrum.sum()


@given(spectra, ratios, seeds)
def test_no_other_count_comes_nearer_to_the_ratio(
    values: list[float], ratio: float, seed: int
) -> None:
    spectrum = _spectrum(values)
    order = np.random.default_rng(seed).permutation(len(values))
    shuffled = spectrum[torch.from_numpy(order)]
    count = int(num_masked_for_ratio(shuffled, ratio, "nearest"))
    misses = [abs(float(shuffled[:k].sum()) - ratio) for k in range(1, len(values))]
    assert 1 <= count <= len(values) - 1
    assert misses[count - 1] <= min(misses) + 1e-12
    assert int(num_masked_for_ratio(shuffled, ratio, "reference")) == max(count - 1, 1)


@given(spectra, ratios, seeds, st.integers(1, 5))
def test_component_masks_leave_something_visible_and_are_reproducible(
    values: list[float], ratio: float, seed: int, batch: int
) -> None:
    def draw() -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return random_component_mask(
            _spectrum(values), ratio, generator, count="reference", batch=batch
        )

    masked = draw()
    assert masked.shape == (batch, len(values))
    assert bool(masked.any(dim=1).all())
    assert bool((~masked).any(dim=1).all())
    assert torch.equal(masked, draw())


@given(seeds, ratios, st.booleans())
def test_visible_and_masked_parts_add_up_to_the_image(
    seed: int, ratio: float, per_image: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(16, 16, generator=generator)
    components = torch.linalg.qr(square).Q.T.contiguous()
    spectrum = _spectrum([2.0**-k for k in range(16)])
    basis = Basis(components, spectrum)
    images = torch.randn(3, 1, 4, 4, generator=generator)
    batch = 3 if per_image else None
    masked = random_component_mask(spectrum, ratio, generator, count="reference", batch=batch)
    hidden, visible = (
        projection.images(projection.coordinates(images)).view_as(images)
        for projection in (Projection.of(basis, masked), Projection.of(basis, ~masked))
    )
    torch.testing.assert_close(hidden + visible, images, atol=1e-5, rtol=1e-5)
    assert (basis.transform(hidden) * ~masked).abs().max() < 1e-5
    torch.testing.assert_close(
        basis.inverse_transform(basis.transform(images)), images.flatten(1), atol=1e-5, rtol=1e-5
    )


@given(st.integers(1, 6), st.integers(2, 64), ratios, seeds)
def test_patch_masks_partition_the_patches(
    batch: int, num_patches: int, ratio: float, seed: int
) -> None:
    masked = random_patch_mask(batch, num_patches, ratio, torch.Generator().manual_seed(seed))
    visible = visible_indices(masked)
    hidden = visible_indices(~masked)
    both = torch.cat([visible, hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(num_patches).expand(batch, -1))
    assert 1 <= visible.shape[1] <= num_patches - 1
    assert abs(visible.shape[1] - num_patches * (1 - ratio)) <= 1


def test_every_component_is_masked_equally_often() -> None:
    spectrum = _spectrum([1.0] * 10)
    masks = random_component_mask(
        spectrum, 0.3, torch.Generator().manual_seed(0), count="nearest", batch=4000
    )
    assert torch.equal(masks.sum(dim=1), torch.full((4000,), 3))
    np.testing.assert_allclose(masks.double().mean(dim=0), 0.3, atol=0.04)


@given(st.floats(0.01, 0.98), seeds)
def test_a_drawn_ratio_lies_in_its_range(low: float, seed: int) -> None:
    ratio = float(draw_ratios((low, 0.99), 1, torch.Generator().manual_seed(seed)))
    assert low <= ratio <= 0.99
    assert float(draw_ratios((low, low), 1, torch.Generator().manual_seed(seed))) == low
