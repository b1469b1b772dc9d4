"""Training step of the CPU benchmarks: ViT on 32 px RGB, patches of 8, MAE's decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pmae.masking import random_patch_mask, visible_indices
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.models.patches import patchify
from pmae.seeding import generator
from pmae.spec import DatasetSpec, ExperimentSpec, ModelSpec, resolve

ROUNDS = 5
"""Repetitions behind a median."""
BATCH = 64
PIXELS, PATCH, CHANNELS = 32, 8, 3
PATCHES = (PIXELS // PATCH) ** 2


def step_spec(preset: str) -> ExperimentSpec:
    """Resolve the spec of a preset size."""
    model = ModelSpec.model_validate({"preset": preset, "patch_size": PATCH})
    return resolve(ExperimentSpec(dataset=DatasetSpec(name="cifar10"), model=model))


def step_model(preset: str) -> MaskedAutoencoder:
    """Make a model of a preset size."""
    return MaskedAutoencoder(step_spec(preset).model, image_size=PIXELS, channels=CHANNELS, seed=0)


def step_images(batch: int = BATCH) -> Tensor:
    """Draw Gaussian noise ``(batch, channels, 32, 32)`` in place of images."""
    return torch.randn(batch, CHANNELS, PIXELS, PIXELS, generator=generator(0, "order"))


def step_optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    """Make AdamW as in pretraining."""
    trained = [value for value in model.parameters() if value.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Do the backward pass and an optimiser step."""
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def our_step(preset: str, ratio: float, *, bf16: bool = False) -> Callable[[], object]:
    """Make our MAE's step on fixed images; ``ratio`` 0 encodes every patch."""
    model, images = step_model(preset), step_images()
    optimizer, target = step_optimizer(model), patchify(images, PATCH)
    visible = None
    if ratio:
        masked = random_patch_mask(len(images), PATCHES, ratio, generator(0, "mask"))
        visible = visible_indices(masked)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            prediction, _ = model(images, visible)
        update(optimizer, (patchify(prediction.float(), PATCH) - target).square().mean())

    return run
