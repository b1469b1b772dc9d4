"""How many components make up a ratio: both rules and a share of their number, by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pmae.basis.basis import Basis
from pmae.basis.reach import check_reach
from pmae.errors import SpecError
from pmae.masking import num_masked_for_ratio
from pmae.methods.pmae import PMAE
from pmae.seeding import generator
from pmae.spec import MaskingSpec
from pmae.spec.parts.masking import Count

rules: st.SearchStrategy[Count | None] = st.sampled_from(["reference", "nearest", None])
names = st.sampled_from(["random", "top", "bottom", "block"])
ratios = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**31 - 1)
spectra = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=40).filter(lambda v: max(v) > 1e-3)


def _spectrum(values: list[float]) -> np.ndarray:
    spectrum: np.ndarray = np.sort(np.array(values))[::-1] / np.sum(values)
    return spectrum


def _expected(shares: np.ndarray, ratio: float, rule: Count | None) -> set[int]:
    """METHOD's rules, one sum at a time. Of sums that are equal but for rounding any counts."""
    size = len(shares)
    if rule is None:
        misses = [abs(k - ratio * size) for k in range(1, size)]
    else:
        misses = [abs(shares[:k].sum() - ratio) for k in range(1, size)]
    nearest = {k for k in range(1, size) if misses[k - 1] <= min(misses) + 1e-12}
    return {max(k - 1, 1) for k in nearest} if rule == "reference" else nearest


@given(spectra, ratios, seeds, rules)
def test_the_count_is_the_rules(
    values: list[float], ratio: float, seed: int, rule: Count | None
) -> None:
    shares = np.random.default_rng(seed).permutation(_spectrum(values))
    count = num_masked_for_ratio(torch.from_numpy(shares), ratio, rule)
    assert count.shape == ()
    assert int(count) in _expected(shares, ratio, rule)
    assert 1 <= int(count) <= len(shares) - 1
    rows = num_masked_for_ratio(torch.from_numpy(np.stack([shares] * 3)), ratio, rule)
    assert rows.tolist() == [int(count)] * 3


def _method(spectrum: np.ndarray) -> PMAE:
    size = len(spectrum)
    return PMAE(Basis(torch.eye(size), torch.from_numpy(spectrum.copy())))


def _masking(name: str, rule: Count | None, **more: object) -> MaskingSpec:
    how = {"ratio_of": "components"} if rule is None else {"ratio_of": "variance", "count": rule}
    return MaskingSpec.model_validate({"strategy": name, "scope": "batch", **how, **more})


@given(names, spectra, ratios, seeds, rules, st.booleans())
def test_every_strategy_masks_as_many_as_the_rule_says_and_never_none_or_all(
    name: str, values: list[float], ratio: float, seed: int, rule: Count | None, per_image: bool
) -> None:
    spectrum = _spectrum(values)
    scope = "image" if per_image and name in ("random", "block") else "batch"
    masking = _masking(name, rule, ratio=ratio, scope=scope)
    draw = _method(spectrum).draw(4, masking, generator(seed, "mask"))
    rows = draw.masked if scope == "image" else draw.masked[None]
    shares = []
    for row in rows.numpy():
        chosen = np.flatnonzero(row)
        assert 1 <= len(chosen) <= len(spectrum) - 1
        shares.append(spectrum[chosen].sum())
        if name == "random":
            continue  # its order is drawn: see below
        order = {"top": chosen, "bottom": chosen[::-1], "block": chosen}[name]
        assert np.array_equal(np.sort(chosen), np.arange(chosen.min(), chosen.max() + 1))
        if name == "top":
            assert chosen[0] == 0
        if name == "bottom":
            assert chosen[-1] == len(spectrum) - 1
        rest = {"top": np.arange(len(spectrum)), "bottom": np.arange(len(spectrum))[::-1]}
        following = rest.get(name, np.arange(order[0], len(spectrum)))
        if rule is None:
            assert len(chosen) in _expected(spectrum, ratio, None)
        elif name != "block" or order[0] == 0:
            assert len(chosen) in _expected(spectrum[following], ratio, rule)
    assert draw.masked_share == pytest.approx(np.mean(shares))


@given(spectra, ratios, seeds, rules)
def test_random_masks_the_first_of_its_permutation(
    values: list[float], ratio: float, seed: int, rule: Count | None
) -> None:
    """The permutation is that of the generator's noise, so the mask can be drawn independently."""
    spectrum = _spectrum(values)
    masking = _masking("random", rule, ratio=ratio)
    masked = _method(spectrum).draw(8, masking, generator(seed, "mask", 3)).masked.numpy()
    noise = generator(seed, "mask", 3)
    torch.rand(1, generator=noise, dtype=torch.float64)  # the ratio, of which none is drawn
    order = np.argsort(torch.rand(len(spectrum), generator=noise, dtype=torch.float64).numpy())
    count = int(masked.sum())
    assert count in _expected(spectrum[order], ratio, rule)
    assert set(np.flatnonzero(masked)) == set(order[:count])


def test_reference_never_masks_a_component_that_holds_twice_the_ratio_unless_drawn_first() -> None:
    spectrum = _spectrum([0.5, *[0.05] * 10])
    masking = _masking("random", "reference", ratio=0.2)
    draws = [_method(spectrum).draw(1, masking, generator(0, "mask", n)) for n in range(400)]
    with_first = [draw for draw in draws if bool(draw.masked[0])]
    assert all(int(draw.masked.sum()) == 1 for draw in with_first)


def test_a_block_of_a_number_starts_equally_often_everywhere() -> None:
    spectrum = _spectrum([0.8**k for k in range(10)])
    masking = _masking("block", None, ratio=0.3, scope="image")
    masks = _method(spectrum).draw(8000, masking, generator(0, "mask")).masked
    assert masks.sum(dim=1).tolist() == [3] * 8000
    starts = np.bincount(masks.int().argmax(dim=1).numpy(), minlength=10)
    np.testing.assert_allclose(starts / 8000, [1 / 8] * 8 + [0, 0], atol=0.02)


def test_a_share_of_the_number_can_always_be_reached() -> None:
    truncated = Basis(torch.eye(8)[:4], torch.tensor([0.3, 0.2, 0.1, 0.05], dtype=torch.float64))
    check_reach(_masking("random", None, ratio=0.9), truncated)
    with pytest.raises(SpecError, match=r"expected at most 0\.65"):
        check_reach(_masking("random", "reference", ratio=0.9), truncated)
    masking = _masking("top", None, ratio=0.5)
    draw = PMAE(truncated).draw(2, masking, generator(0, "mask"))
    assert draw.masked.tolist() == [True, True, False, False]
    assert draw.masked_share == pytest.approx(0.5)


@pytest.mark.parametrize("scope", ["batch", "image"])
def test_a_scaled_loss_of_components_without_variance_is_finite(scope: str) -> None:
    spectrum = torch.tensor([0.6, 0.4, *[0.0] * 6], dtype=torch.float64)
    method = PMAE(Basis(torch.eye(8), spectrum), "masked_variance")
    masking = _masking("bottom", None, ratio=(0.2, 0.6), scope=scope)
    masked = method.draw(3, masking, generator(0, "mask")).masked
    images = torch.randn(3, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    error = torch.full_like(images, 0.01)
    loss = method.score(images + error, method.project(images, masked)).loss
    assert float(loss) == pytest.approx(0.01**2 / 1e-4, rel=1e-3)
