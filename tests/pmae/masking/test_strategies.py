"""Invariants of the strategies that mask components, and of masks that somebody wrote down."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pmae.basis.basis import Basis
from pmae.errors import SpecError
from pmae.masking import (
    block_component_mask,
    bottom_component_mask,
    chosen_mask,
    selection_of,
    top_component_mask,
)
from pmae.methods.mae import MAE
from pmae.methods.pmae import PMAE
from pmae.spec import MaskingSpec

ratios = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**31 - 1)
spectra = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=40).filter(lambda v: max(v) > 1e-3)
strategies = st.sampled_from(["random", "top", "bottom", "block"])


def _spectrum(values: list[float]) -> torch.Tensor:
    spectrum = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    return spectrum / spectrum.sum()


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _miss(spectrum: torch.Tensor, masked: range, ratio: float) -> float:
    return abs(sum(float(spectrum[i]) for i in masked) - ratio)


@given(spectra, ratios)
def test_top_is_a_prefix_and_bottom_a_suffix_and_no_other_comes_nearer(
    values: list[float], ratio: float
) -> None:
    spectrum, size = _spectrum(values), len(values)
    for masked, candidates in (
        (top_component_mask(spectrum, ratio, count="nearest"), [range(k) for k in range(1, size)]),
        (
            bottom_component_mask(spectrum, ratio, count="nearest"),
            [range(k, size) for k in range(1, size)],
        ),
    ):
        chosen = masked.nonzero()[:, 0].tolist()
        assert chosen in [list(candidate) for candidate in candidates]
        nearest = min(_miss(spectrum, candidate, ratio) for candidate in candidates)
        assert _miss(spectrum, range(chosen[0], chosen[-1] + 1), ratio) <= nearest + 1e-9


@given(spectra, ratios, seeds, st.integers(1, 4))
def test_a_block_is_contiguous_and_no_other_length_from_its_start_comes_nearer(
    values: list[float], ratio: float, seed: int, batch: int
) -> None:
    spectrum, size = _spectrum(values), len(values)
    masks = block_component_mask(spectrum, ratio, _generator(seed), count="nearest", batch=batch)
    assert masks.shape == (batch, size)
    for row in masks:
        block = row.nonzero()[:, 0].tolist()
        assert 1 <= len(block) <= size - 1
        first, last = block[0], block[-1]
        assert block == list(range(first, last + 1))
        most = size - first - (first == 0)
        misses = [_miss(spectrum, range(first, first + k), ratio) for k in range(1, most + 1)]
        assert misses[len(block) - 1] <= min(misses) + 1e-9
        assert first == 0 or float(spectrum[first:].sum()) >= ratio - 1e-6
    assert torch.equal(
        masks, block_component_mask(spectrum, ratio, _generator(seed), count="nearest", batch=batch)
    )


def test_a_block_starts_equally_often_wherever_enough_variance_follows() -> None:
    spectrum = _spectrum([1.0] * 10)
    masks = block_component_mask(spectrum, 0.3, _generator(0), count="nearest", batch=8000)
    assert torch.equal(masks.sum(dim=1), torch.full((8000,), 3))
    starts = np.bincount(masks.int().argmax(dim=1), minlength=10)
    np.testing.assert_allclose(starts / 8000, [1 / 8] * 8 + [0, 0], atol=0.02)


def _method(size: int = 16, spectrum: torch.Tensor | None = None) -> PMAE:
    square = torch.randn(size, size, generator=_generator(1))
    if spectrum is None:
        spectrum = _spectrum([0.8**k for k in range(size)])
    return PMAE(Basis(torch.linalg.qr(square).Q.T.contiguous(), spectrum))


@given(strategies, st.booleans(), seeds)
def test_what_is_masked_and_what_is_visible_add_up_and_the_loss_is_the_papers(
    strategy: str, per_image: bool, seed: int
) -> None:
    """Equation 2 by NumPy, one image and one component at a time."""
    method, noise = _method(), _generator(seed)
    scope = "image" if per_image else "batch"
    masking = MaskingSpec.model_validate(
        {"strategy": strategy, "ratio": (0.2, 0.7), "count": "nearest", "scope": scope}
    )
    images, prediction = torch.randn(2, 5, 1, 4, 4, generator=noise)
    masked = method.draw(5, masking, noise).masked
    assert masked.shape == ((5, 16) if per_image else (16,))
    hidden = method.masked_projection(images, masked)
    torch.testing.assert_close(hidden + method.masked_projection(images, ~masked), images)

    v = method.basis.components.double().numpy().T
    rows = np.broadcast_to(masked.numpy(), (5, 16))
    squares = [
        float((x_hat.flatten() - x.flatten()).double().numpy() @ v[:, component]) ** 2
        for x, x_hat, row in zip(images, prediction, rows, strict=True)
        for component in np.flatnonzero(row)
    ]
    loss = float(method.score(prediction, method.project(images, masked)).loss)
    assert loss == pytest.approx(np.mean(squares), rel=1e-4)


@given(strategies, seeds)
def test_images_of_a_batch_differ_and_the_seed_decides(strategy: str, seed: int) -> None:
    method = _method(64)
    masking = MaskingSpec.model_validate(
        {"strategy": strategy, "ratio": (0.05, 0.95), "count": "nearest", "scope": "image"}
    )
    draw, again = (method.draw(32, masking, _generator(seed)) for _ in range(2))
    assert torch.equal(draw.masked, again.masked)
    assert draw.ratio == again.ratio
    assert len({tuple(row.tolist()) for row in draw.masked}) > 4
    share = (method.basis.explained_variance_ratio * draw.masked).sum(dim=1)
    assert draw.masked_share == pytest.approx(float(share.mean()))
    assert draw.ratio == pytest.approx(draw.masked_share, abs=0.1)


def test_one_dominant_component_is_as_near_as_it_gets() -> None:
    spectrum = _spectrum([0.9, 0.06, 0.04])
    assert top_component_mask(spectrum, 0.2, count="nearest").tolist() == [True, False, False]
    assert bottom_component_mask(spectrum, 0.5, count="nearest").tolist() == [False, True, True]
    # No block of what follows component 0 holds a half.
    for seed in range(20):
        masked = block_component_mask(spectrum, 0.5, _generator(seed), count="nearest")
        assert masked.tolist() == [True, False, False]


@given(
    st.lists(
        st.one_of(
            st.integers(0, 19),
            st.tuples(st.integers(0, 19), st.integers(0, 19)).map(lambda p: (min(p), max(p))),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_written_mask_holds_exactly_what_is_written(parts: list[int | tuple[int, int]]) -> None:
    wanted: set[int] = set()
    for part in parts:
        wanted |= {part} if isinstance(part, int) else set(range(part[0], part[1] + 1))
    if len(wanted) == 20:
        with pytest.raises(SpecError, match="all of the 20 patches"):
            chosen_mask(parts, 20, what="patches")
        return
    assert set(chosen_mask(parts, 20, what="patches").nonzero()[:, 0].tolist()) == wanted
    draw = MAE(20, 2).select(parts, 3)
    assert draw.masked.shape == (3, 20)
    assert draw.masked_share == pytest.approx(len(wanted) / 20)


@given(st.lists(st.booleans(), min_size=2, max_size=30).filter(lambda v: 0 < sum(v) < len(v)))
def test_a_mask_written_down_is_the_mask_again(values: list[bool]) -> None:
    masked = torch.tensor(values)
    written = selection_of(masked)
    assert torch.equal(chosen_mask(written, len(values), what="patches"), masked)
    ends = [(part, part) if isinstance(part, int) else part for part in written]
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ends)), "as short as can be"
    assert all(isinstance(part, int) or part[0] < part[1] for part in written)


@pytest.mark.parametrize("part", [20, -1, (3, 20), (3, 1), (0, 10**15)])
def test_a_written_mask_of_what_is_not_there_is_refused(part: int | tuple[int, int]) -> None:
    with pytest.raises(SpecError, match=r"is not among the 20 components .* 0 to 19") as caught:
        chosen_mask([1, part], 20, what="components")
    assert caught.value.field == ("components",)
