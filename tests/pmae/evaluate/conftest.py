"""A small encoder on the digits, as if it had been pretrained."""

from __future__ import annotations

import pytest
import torch

from pmae.data.registry import load_data
from pmae.data.transforms.standardize import pixel_statistics
from pmae.evaluate.measure import Evaluations
from pmae.evaluate.subject import Subject, Target
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec


@pytest.fixture
def subject(tiny_spec: ExperimentSpec, storage: StorageSettings) -> Subject:
    """Three blocks of width 16 with drawn weights, 200 training images."""
    model = tiny_spec.model.model_copy(update={"depth": 3})
    spec = tiny_spec.model_copy(update={"model": model})
    data = load_data(spec.dataset, storage)
    statistics = pixel_statistics(b.images for b in data.train.in_order(256)).with_floor(0.1)
    torch.manual_seed(0)
    encoder = MaskedAutoencoder(spec.model, image_size=8, channels=1, seed=5).encoder
    target = Target(data, statistics, spec.augmentation, data.digest())
    return Subject(spec, encoder, target, step=24, epoch=4.0, sha256="0" * 64)


@pytest.fixture
def evaluations(subject: Subject, storage: StorageSettings) -> Evaluations:
    return Evaluations(subject, storage, tick=lambda: None)
