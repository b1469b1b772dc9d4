"""Tokens picked and put back, against torch's own gather and scatter and their gradients."""

from __future__ import annotations

import pytest
import torch

from pmae.masking import padded_visible_indices, random_patch_mask
from pmae.models.tokens import Visible


def _visible(padded: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    masked = random_patch_mask(4, 16, 0.75, torch.Generator().manual_seed(0))
    if padded:
        masked[0, ~masked[0]] = torch.tensor([False, True, True, True])
        masked[1] = ~masked[1]
    return padded_visible_indices(masked)


def _tokens(num: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num)
    return torch.randn(4, num, 5, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("padded", [False, True])
def test_picking_is_gather_and_so_is_its_gradient(padded: bool) -> None:
    index, padding = _visible(padded)
    weights = _tokens(index.shape[1]).detach()
    if padding is not None:  # Nothing asks for what becomes of padding.
        weights = weights * ~padding[:, :, None]
    ours, theirs = _tokens(16), _tokens(16)
    taken = Visible.of(index, padding, 16).take(ours)
    counting = torch.ones_like(index, dtype=torch.bool) if padding is None else ~padding
    expected = theirs.gather(1, index[:, :, None].expand(-1, -1, 5))
    assert torch.equal(taken[counting], expected[counting])
    (taken * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("padded", [False, True])
def test_putting_back_is_scatter_and_so_is_its_gradient(padded: bool) -> None:
    index, padding = _visible(padded)
    weights = _tokens(16).detach()
    ours, theirs = _tokens(index.shape[1]), _tokens(index.shape[1])
    put = Visible.of(index, padding, 16).put(ours)
    counting = theirs if padding is None else theirs * ~padding[:, :, None]
    expected = torch.zeros(4, 16, 5, dtype=torch.float64).scatter(
        1, index[:, :, None].expand(-1, -1, 5), counting
    )
    assert torch.equal(put, expected)
    (put * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


def test_an_index_need_not_rise() -> None:
    index = torch.tensor([[3, 0], [1, 2]])
    where = Visible.of(index, None, 4)
    tokens = torch.arange(8.0).reshape(2, 4, 1)
    assert where.take(tokens).flatten().tolist() == [3, 0, 5, 6]
    assert where.put(where.take(tokens)).flatten().tolist() == [0, 0, 0, 3, 0, 5, 6, 0]
