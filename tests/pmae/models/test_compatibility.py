"""What specs tell of two models' weights, against the models themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pmae.models.autoencoder import MaskedAutoencoder
from pmae.models.compatibility import model_differences
from pmae.spec import ExperimentSpec, resolve

BASE: dict[str, Any] = {"dataset": {"name": "digits"}}


def spec_of(**fields: Any) -> ExperimentSpec:
    return resolve(ExperimentSpec.model_validate(BASE | fields))


def shapes(spec: ExperimentSpec, channels: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = MaskedAutoencoder.of(spec, channels)
    return {name: value.shape for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("fields", "channels"),
    [
        ({}, 1),
        ({}, 3),
        ({"method": "mae"}, 1),
        ({"model": {"num_heads": 6, "decoder_num_heads": 8}}, 1),
        ({"model": {"patch_size": 4}}, 1),
        ({"model": {"patch_size": 4}, "dataset": {"name": "digits", "resolution": 16}}, 1),
        ({"dataset": {"name": "digits", "resolution": 16}}, 1),
        ({"model": {"preset": "vit_small"}}, 1),
        ({"model": {"depth": 2}}, 1),
        ({"model": {"mlp_ratio": 4.001}}, 1),
        ({"model": {"mlp_ratio": 2}}, 1),
        ({"model": {"decoder_embed_dim": 256}}, 1),
        ({"model": {"decoder_depth": 2}}, 1),
        ({"model": {"decoder_mlp_ratio": 1}}, 1),
        ({"epochs": 3, "seed": 4}, 1),
    ],
)
def test_they_differ_where_the_weights_do(fields: dict[str, Any], channels: int) -> None:
    here, there = spec_of(**fields), spec_of()
    found = model_differences(there, here, channels_there=1, channels_here=channels)
    assert bool(found) == (shapes(here, channels) != shapes(there, 1)), found
    if channels != 1:
        assert model_differences(there, here, channels_there=1, channels_here=None) == []
