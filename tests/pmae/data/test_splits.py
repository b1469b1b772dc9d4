"""Splits and subsets: disjoint, complete, stratified, the same every time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pmae.data.images import MemorySplit, Split
from pmae.data.splits import carve, subset

class_lists = st.lists(st.integers(0, 6), min_size=1, max_size=120)
shares = st.floats(0.02, 0.6)


def _split(labels: Tensor) -> MemorySplit:
    """Images whose first two pixels number them."""
    numbers = torch.arange(len(labels))
    images = torch.stack([numbers // 256, numbers % 256], dim=1).byte()[:, None, None]
    return MemorySplit(images, labels)


def _numbers(split: Split) -> Tensor:
    pixels = split.in_memory().images[:, 0, 0].long()
    return pixels[:, 0] * 256 + pixels[:, 1]


@given(class_lists, shares, st.integers(0, 3))
def test_carving_is_a_stratified_partition(classes: list[int], share: float, index: int) -> None:
    labels = torch.tensor(classes)
    rest, cut = carve(_split(labels), share, index)
    together = torch.cat([_numbers(rest), _numbers(cut)])
    assert torch.equal(together.sort().values, torch.arange(len(labels)))
    for part in (rest, cut):
        assert torch.equal(part.labels, labels[_numbers(part)])
        assert bool((_numbers(part).diff() > 0).all())
    for label in labels.unique():
        count = int((labels == label).sum())
        taken = int((cut.labels == label).sum())
        if count == 1:
            assert taken == 0
        else:
            assert 1 <= taken <= count - 1
            assert abs(taken - share * count) <= 0.5 or taken in (1, count - 1)
    again = carve(_split(labels), share, index)
    assert torch.equal(_numbers(again[1]), _numbers(cut))


def test_two_cuts_of_a_data_set_differ() -> None:
    split = _split(torch.arange(400) % 4)
    first, second = carve(split, 0.25, index=0)[1], carve(split, 0.25, index=1)[1]
    assert not torch.equal(_numbers(first), _numbers(second))


@given(st.integers(2, 80), shares)
def test_carving_binary_labels_cuts_the_share_of_all_images(count: int, share: float) -> None:
    labels = torch.randint(0, 2, (count, 5), generator=torch.Generator().manual_seed(count))
    rest, cut = carve(_split(labels), share, index=0)
    assert len(rest) + len(cut) == count
    assert len(cut) == min(max(1, round(share * count)), count - 1)
    assert torch.equal(cut.labels, labels[_numbers(cut)])


@given(class_lists, st.integers(1, 130))
def test_a_subset_is_as_balanced_as_it_can_be(classes: list[int], size: int) -> None:
    labels = torch.tensor(classes)
    chosen = subset(_split(labels), size)
    assert len(chosen) == min(size, len(labels))
    assert torch.equal(chosen.labels, labels[_numbers(chosen)])
    taken = torch.bincount(chosen.labels, minlength=7)
    there = torch.bincount(labels, minlength=7)
    # A class gives fewer images than another only if it has no more.
    assert bool(((taken == there) | (taken >= taken.max() - 1)).all())
    assert torch.equal(_numbers(subset(_split(labels), size)), _numbers(chosen))


@pytest.mark.parametrize("smaller", [10, 37])
def test_a_smaller_subset_is_part_of_a_larger_one(smaller: int) -> None:
    split = _split(torch.arange(200) % 3)
    assert set(_numbers(subset(split, smaller)).tolist()) <= set(
        _numbers(subset(split, 90)).tolist()
    )
