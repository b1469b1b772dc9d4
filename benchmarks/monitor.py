"""Measure the cost of monitoring a run's features, as a fraction of an epoch.

    python -m benchmarks.monitor

One thread; medians of processor time. Images are noise, which does not affect time, and the method
is MAE at 0.75, whose steps are the cheapest, so that the fractions are upper bounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from pmae.data.images import ImageData, MemorySplit
from pmae.data.transforms.standardize import PixelStatistics
from pmae.methods.base import method_for
from pmae.presets import get_preset
from pmae.spec import ExperimentSpec, resolve
from pmae.training.module import PretrainModule
from pmae.training.monitor import Monitor

_MAE: dict[str, Any] = {"method": "mae", "basis": None, "masking": {}, "loss": {}}
_PAPER = {"dataset": {"name": "cifar10"}, "batch_size": 64}
_STEPS, _MEASUREMENTS = 9, 3


def _seconds(do: Callable[[], object], times: int) -> float:
    found: list[float] = []
    for _ in range(times):
        began = time.process_time()
        do()
        found.append(time.process_time() - began)
    return statistics.median(found)


def _noise(images: int, shape: tuple[int, int, int]) -> MemorySplit:
    pixels = torch.randint(256, (images, *shape), dtype=torch.uint8)
    return MemorySplit(pixels, torch.randint(10, (images,)))


def _measure(name: str, fields: dict[str, Any], *, train: int, val: int, channels: int) -> None:
    spec = resolve(ExperimentSpec.model_validate(fields | _MAE))
    shape = (channels, spec.resolution, spec.resolution)
    trained, held_out = _noise(train, shape), _noise(val, shape)
    data = ImageData("noise", trained, held_out, held_out, tuple("0123456789"))
    pixels = PixelStatistics(torch.zeros(shape), torch.ones(shape))
    module = PretrainModule(spec, data, pixels, method_for(spec, None)).train()
    optimizer = module.configure_optimizers()
    steps = iter(range(_STEPS + 1))

    def step() -> None:
        optimizer.zero_grad()
        module.training_step(next(steps)).backward()
        optimizer.step()

    step()
    epoch = _seconds(step, _STEPS) * module.plan.steps_per_epoch
    monitor = Monitor(spec, data)
    share = _seconds(lambda: monitor.measure(module.model.encoder, pixels), _MEASUREMENTS) / epoch
    every = spec.monitor.every_epochs or 1
    print(f"{name:<34} {share:6.1%} of an epoch, every {every}: {share / every:.2%} of the run")


def main() -> None:
    """Print a line for each setting."""
    torch.set_num_threads(1)
    digits = get_preset("quickstart").spec.model_dump()
    _measure("quickstart", digits, train=1259, val=269, channels=1)
    fashion = get_preset("fashion_mnist_small").spec.model_dump()
    _measure("fashion_mnist_small", fashion, train=10_000, val=5_000, channels=1)
    _measure("ViT-T, 32 px, decoder 512 x 8", _PAPER, train=45_000, val=5_000, channels=3)


if __name__ == "__main__":
    main()
