"""The masked autoencoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pmae.masking import padded_visible_indices, random_patch_mask, visible_indices
from pmae.models.autoencoder import MaskedAutoencoder, sincos_positions
from pmae.spec import DatasetSpec, ExperimentSpec, ModelSpec, resolve


def _model(seed: int = 0) -> MaskedAutoencoder:
    spec = resolve(
        ExperimentSpec(
            dataset=DatasetSpec(name="digits"),
            model=ModelSpec(
                embed_dim=16, depth=2, num_heads=2, decoder_embed_dim=16, decoder_num_heads=2
            ),
        )
    )
    return MaskedAutoencoder(spec.model, image_size=8, channels=1, seed=seed).eval()


def test_mae_encodes_a_quarter_of_the_patches() -> None:
    model, images = _model(), torch.randn(3, 1, 8, 8)
    visible = visible_indices(random_patch_mask(3, 16, 0.75, torch.Generator().manual_seed(0)))
    seen: list[torch.Size] = []

    def spy(_module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].shape)

    model.encoder.blocks[0].register_forward_pre_hook(spy)
    prediction, cls = model(images, visible)
    assert seen == [torch.Size([3, 1 + 4, 16])]
    assert prediction.shape == images.shape
    assert cls.shape == (3, 16)


def test_dropping_no_patch_is_the_same_as_seeing_the_whole_image() -> None:
    model, images = _model(), torch.randn(2, 1, 8, 8)
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(model(images, everything), model(images), atol=1e-6, rtol=1e-5)


def test_a_dropped_patch_has_no_influence() -> None:
    model, images = _model(), torch.randn(1, 1, 8, 8)
    visible = torch.tensor([[0, 5, 9]])
    changed = images.clone()
    changed[:, :, :2, 2:4] += 10.0
    torch.testing.assert_close(model(images, visible), model(changed, visible))


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = _model(seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    second = _model(seed=3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = _model(seed=4).encoder.state_dict()["blocks.0.attn.qkv.weight"]
    assert not torch.equal(first["encoder.blocks.0.attn.qkv.weight"], other)


def test_positions_tell_rows_from_columns() -> None:
    positions = sincos_positions(16, 4)
    assert positions.shape == (1, 17, 16)
    assert torch.equal(positions[0, 0], torch.zeros(16))
    assert len({tuple(row.tolist()) for row in positions[0]}) == 17
    assert torch.equal(positions[0, 1 + 2, :8], positions[0, 1 + 4 + 2, :8])


@pytest.mark.parametrize("what", ["every patch", "a quarter", "numbers that differ"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_the_model_is_one_graph_and_computes_the_same(what: str) -> None:
    """``fullgraph`` makes a break of the graph an error."""
    model = _model()
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    visible = padding = None
    if what != "every patch":
        masked = random_patch_mask(3, 16, 0.75, torch.Generator().manual_seed(0))
        if what == "numbers that differ":
            masked[0] = ~masked[0]
        visible, padding = padded_visible_indices(masked)
        assert (padding is None) == (what == "a quarter")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    gradients = []
    for run in (model, compiled):
        model.zero_grad()
        prediction, cls = run(images, visible, padding)
        (prediction.square().mean() + cls.square().mean()).backward()
        found = [value.grad for value in model.parameters() if value.grad is not None]
        gradients.append([prediction.detach(), *found])
    torch.testing.assert_close(gradients[1], gradients[0])
