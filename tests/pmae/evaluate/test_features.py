"""Features of every block in one pass, and attention maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pmae.errors import SpecError
from pmae.evaluate.attention import attention, attention_maps, attention_png
from pmae.evaluate.features import encode, extract
from pmae.evaluate.subject import Subject
from pmae.spec.parts.evaluation import Pooling


@pytest.fixture
def images(subject: Subject) -> torch.Tensor:
    return subject.target.statistics.standardize(
        subject.target.data.test.take(torch.arange(5)).images / 255
    )


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_every_block_gives_what_an_encoder_cut_after_it_gives(
    subject: Subject, images: torch.Tensor, pooling: Pooling
) -> None:
    encoder = subject.encoder.eval()
    with torch.no_grad():
        found = encode(encoder, images, pooling, "all")
        assert found.shape == (3, 5, 16)
        assert torch.equal(found[-1:], encode(encoder, images, pooling, "last"))
        blocks = encoder.blocks
        for depth in (1, 2):
            encoder.blocks = blocks[:depth]
            tokens = encoder(images)
            expected = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1)
            assert torch.allclose(found[depth - 1], expected, atol=1e-6)
        encoder.blocks = blocks
    assert not any(block._forward_hooks for block in encoder.blocks)


def test_extraction_keeps_the_order_and_the_mode(subject: Subject, images: torch.Tensor) -> None:
    subject.encoder.train()
    features = extract(
        subject.encoder, subject.target.data.test, subject.target.statistics, "cls", "all"
    )
    assert subject.encoder.training
    assert features.values.shape == (3, len(subject.target.data.test), 16)
    with torch.no_grad():
        first = encode(subject.encoder, images, "cls", "all")
    assert torch.allclose(features.values[:, :5], first, atol=1e-5)


def test_attention_is_what_the_block_computes_with(subject: Subject, images: torch.Tensor) -> None:
    seen: list[torch.Tensor] = []
    layer: Any = subject.encoder.blocks[1].attn
    handle = layer.register_forward_hook(lambda _, inputs, output: seen.extend([*inputs, output]))
    weights = attention(subject.encoder, images, block=1)
    handle.remove()
    tokens, output = seen
    with torch.no_grad():
        value = layer.qkv(tokens).view(5, 17, 3, 2, 8).permute(2, 0, 3, 1, 4)[2]
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        assert torch.allclose(layer.proj(mixed), output, atol=1e-5)
    maps = attention_maps(subject.encoder, images, block=1)
    assert maps.cls_row.shape == maps.spatial_mean.shape == (5, 2, 4, 4)
    assert torch.equal(maps.cls_row.flatten(2), weights[:, :, 0, 1:])
    assert torch.allclose(maps.spatial_mean.flatten(2), weights[:, :, 1:, 1:].mean(dim=2))


def test_a_block_or_head_that_is_not_there_is_named(subject: Subject, images: torch.Tensor) -> None:
    with pytest.raises(SpecError, match="no block 3; expected -3 to 2"):
        attention(subject.encoder, images, block=3)
    maps = attention_maps(subject.encoder, images)
    assert attention_png(images, maps, head=1).startswith(b"\x89PNG")
    with pytest.raises(SpecError, match="no head 2; expected 0 to 1"):
        attention_png(images, maps, head=2)
