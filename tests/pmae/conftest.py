"""Fixtures of the library's tests: one thread, and small models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pmae.settings import StorageSettings
from pmae.spec import (
    AugmentationSpec,
    CheckpointSpec,
    DatasetSpec,
    ExperimentSpec,
    LinearProbeSpec,
    OptimizerSpec,
    resolve,
)
from tests.support.specs import SMALL_MODEL


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def storage(tmp_path: Path) -> StorageSettings:
    return StorageSettings(home=tmp_path / "home")


@pytest.fixture
def tiny_spec() -> ExperimentSpec:
    """Seconds on a CPU: 200 digits, 4 epochs of 6 steps."""
    return resolve(
        ExperimentSpec(
            dataset=DatasetSpec(name="digits", max_train_images=200, std_floor=0.1),
            model=SMALL_MODEL,
            optimizer=OptimizerSpec(base_lr=1e-2),
            augmentation=AugmentationSpec(crop_scale=(0.8, 1.0)),
            epochs=4,
            batch_size=32,
            log_every_steps=1,
            checkpoint=CheckpointSpec(every_epochs=2, latest_seconds=0),
            evaluations=(LinearProbeSpec(epochs=5, baselines=("raw_pixels",)),),
        )
    )
