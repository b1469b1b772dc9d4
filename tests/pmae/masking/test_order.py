"""Fast draws against their definition: the rank of each one's noise."""

from __future__ import annotations

import pytest
import torch

from pmae.masking import num_masked_for_ratio, random_component_mask, random_patch_mask
from pmae.masking.order import CHUNK_VALUES, mask_first


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rank(rows: int, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.rand(rows, count, generator=generator, dtype=torch.float64)
    order = noise.argsort(dim=1)
    return order, order.argsort(dim=1)


@pytest.mark.parametrize("per_image", [False, True])
def test_components_are_masked_by_the_rank_of_their_noise(per_image: bool) -> None:
    """In pieces as at once: there are enough values for three, the last one smaller."""
    components = 3000
    rows = 2 * (CHUNK_VALUES // components) + 5
    variance = 0.99 ** torch.arange(components, dtype=torch.float64)
    variance /= variance.sum()
    ratios = torch.linspace(0.1, 0.6, rows, dtype=torch.float64) if per_image else torch.tensor(0.2)
    generators = _generator(3), _generator(3)
    drawn = random_component_mask(variance, ratios, generators[0], count="reference", batch=rows)
    order, rank = _rank(rows, components, generators[1])
    counts = num_masked_for_ratio(variance[order], ratios, "reference")
    assert torch.equal(drawn, rank < counts[:, None])
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_patches_are_masked_by_the_rank_of_their_noise() -> None:
    drawn = random_patch_mask(50, 49, 0.75, _generator(4))
    _, rank = _rank(50, 49, _generator(4))
    assert torch.equal(drawn, rank >= 12)


def test_the_first_of_an_order_are_masked() -> None:
    order = torch.tensor([[2, 0, 1], [1, 2, 0]])
    expected = torch.tensor([[False, False, True], [False, True, True]])
    assert torch.equal(mask_first(order, torch.tensor([1, 2])), expected)
