"""What a spec is said to cost, against the real model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pmae.data.registry import open_data
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.presets import get_preset
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec, ExperimentSpec, resolve
from pmae.spec.catalog import DATASETS, dataset_facts
from pmae.spec.estimate import (
    checkpoint_bytes,
    decoder_parameters,
    encoder_parameters,
    num_parameters,
    training_memory,
)
from pmae.spec.sizes import known_train_images


def preset(name: str) -> tuple[ExperimentSpec, int]:
    spec = resolve(get_preset(name).spec)
    return spec, dataset_facts(spec.dataset.name).channels or 3


@pytest.mark.parametrize("name", ["cifar10_mae_std", "cifar10_pmae_decoder_depth_1", "quickstart"])
def test_the_parameters_are_the_models(name: str) -> None:
    spec, channels = preset(name)
    model = MaskedAutoencoder.of(spec, channels)

    def trained(part: torch.nn.Module) -> int:
        return sum(weight.numel() for weight in part.parameters() if weight.requires_grad)

    assert encoder_parameters(spec, channels) == trained(model.encoder)
    assert decoder_parameters(spec, channels) == trained(model.decoder)
    assert num_parameters(spec, channels) == trained(model)
    memory = training_memory(spec, channels)
    assert memory.weights == 4 * trained(model)
    state = 4 * sum(weight.numel() for weight in model.parameters()) + 8 * trained(model)
    assert checkpoint_bytes(spec, channels) == state


@pytest.mark.parametrize("name", ["cifar10_mae_std", "cifar10_pmae_ratio_0.2", "quickstart"])
def test_the_activations_are_what_the_backward_pass_keeps(name: str) -> None:
    spec, channels = preset(name)
    spec = spec.model_copy(update={"batch_size": 4, "accumulate_steps": 2})
    model = MaskedAutoencoder.of(spec, channels)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(2, channels, spec.resolution, spec.resolution)
    visible = None
    if spec.method == "mae":
        visible = torch.arange(model.encoder.num_patches // 4).expand(2, -1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        prediction, _ = model(images, visible)
        prediction.square().mean()
    assert training_memory(spec, channels).activations == pytest.approx(sum(kept.values()), rel=0.1)


def test_a_basis_takes_its_square_or_what_is_kept_of_it() -> None:
    spec, channels = preset("cifar10_pmae_ratio_0.2")
    assert training_memory(spec, channels).basis == 4 * 3072 * 3072
    assert spec.basis is not None
    few = spec.model_copy(update={"basis": spec.basis.model_copy(update={"num_components": 100})})
    assert training_memory(few, channels).basis == 4 * 3072 * 100
    mae, channels = preset("cifar10_mae_std")
    memory = training_memory(mae, channels)
    assert memory.basis == 0
    parts = (memory.weights, memory.gradients, memory.optimizer, memory.activations)
    assert memory.total == sum(parts)


def test_train_images_are_those_of_the_split() -> None:
    digits = DatasetSpec(name="digits", resolution=8)
    assert known_train_images(digits) == len(open_data(digits, StorageSettings()).train)
    assert known_train_images(digits.model_copy(update={"max_train_images": 300})) == 300
    assert known_train_images(digits.model_copy(update={"max_train_images": 10**6})) == 1259
    assert known_train_images(DatasetSpec(name="folder:birds")) is None
    assert {name for name, facts in DATASETS.items() if facts.train_images is None} == {"imagenet"}
