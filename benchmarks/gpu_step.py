"""A training step on a device: make it, time it, and count its traffic with the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from benchmarks.device_traffic import DeviceTraffic, Unread
from benchmarks.figure import Figure
from benchmarks.mae_peers import Step
from pmae.basis.basis import Basis
from pmae.data.images import ImageData, MemorySplit
from pmae.data.transforms.standardize import PixelStatistics
from pmae.methods.base import method_for
from pmae.seeding import generator
from pmae.spec import ExperimentSpec, resolve
from pmae.training.module import PretrainModule

CHANNELS = 3


@dataclass(frozen=True)
class Size:
    """A model on images of one size.

    Attributes:
        name: for the table.
        model: fields of the spec's model.
        pixels: edge length of the images.
        batch: images of a step.
        components: of the basis; None: all.
    """

    name: str
    model: dict[str, Any]
    pixels: int
    batch: int
    components: int | None = None


def step_spec(size: Size, method: str, *, bf16: bool) -> ExperimentSpec:
    """Make the resolved spec of a size."""
    fields: dict[str, Any] = {
        "method": method,
        "dataset": {"name": "npz:random", "resolution": size.pixels},
        "model": size.model,
        "batch_size": size.batch,
        "epochs": 100_000,
        "precision": "bf16" if bf16 else "fp32",
        "evaluations": [],
    }
    if method == "pmae" and size.components:
        fields["basis"] = {"solver": "randomized", "num_components": size.components}
    return resolve(ExperimentSpec.model_validate(fields))


def step_module(size: Size, method: str, *, bf16: bool) -> PretrainModule:
    """Make a module on the CPU."""
    spec, noise = step_spec(size, method, bf16=bf16), generator(0, "order")
    shape = CHANNELS, size.pixels, size.pixels
    count = 4 * size.batch
    images = torch.randint(0, 256, (count, *shape), generator=noise, dtype=torch.uint8)
    split = MemorySplit(images, torch.arange(count) % 10)
    data = ImageData("random", split, split, split, tuple("0123456789"))
    basis = _basis(CHANNELS * size.pixels**2, size.components) if method == "pmae" else None
    statistics = PixelStatistics(torch.full(shape, 0.5), torch.full(shape, 0.25))
    return PretrainModule(spec, data, statistics, method_for(spec, basis))


@lru_cache(maxsize=1)
def _basis(pixels: int, components: int | None) -> Basis:
    """Make a random orthonormal basis."""
    count = components or pixels
    square = torch.randn(pixels, count, generator=generator(0, "basis"))
    spectrum = 0.999 ** torch.arange(count, dtype=torch.float64)
    return Basis(torch.linalg.qr(square).Q.T.contiguous(), spectrum / spectrum.sum())


def our_step(module: PretrainModule, device: torch.device) -> Step:
    """Move a module to a device, and make a function that computes its next complete step."""
    _move(module, device)
    optimizer, step = module.configure_optimizers(), iter(range(10**9))

    def run() -> None:
        module.training_step(next(step)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def _move(module: PretrainModule, device: torch.device) -> None:
    basis = getattr(module.method, "basis", None)
    if basis is not None:
        module.method = method_for(module.spec, basis.to(device))
    module.to(device)


def asked(module: PretrainModule) -> tuple[int, int]:
    """Count a step's operations on a device, without the optimiser, and copies to it."""
    device = torch.device("meta")
    _move(module, device)
    module.loss = Unread()
    module.training_step(0).backward()
    with DeviceTraffic(device) as traffic:
        module.training_step(1).backward()
    return traffic.operations, len(traffic.copies)


def timed(step: Step, batch: int, seconds: float, device: torch.device) -> tuple[float, int | None]:
    """Measure images a second, and peak memory of the card in bytes (None on a CPU)."""
    for _ in range(3):
        step()
    wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - began < seconds:
        step()
        steps += 1
    wait(device)
    speed = steps * batch / (time.perf_counter() - began)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return speed, memory


def waits(name: str, step: Step, device: torch.device) -> list[Figure]:
    """Count kernels, copies and waits of a step by torch's profiler; nothing on a CPU."""
    if device.type != "cuda":
        return []
    step()
    step()
    wait(device)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        step()
    counts = {event.key: event.count for event in profiler.key_averages()}
    kinds = {
        "kernels launched": ("cudaLaunchKernel", "cuLaunchKernel"),
        "copies": ("cudaMemcpyAsync",),
        "waits": ("cudaStreamSynchronize", "cudaDeviceSynchronize"),
    }
    return [
        Figure(
            f"{name}, {kind} in a step (profiler)",
            "",
            sum(count for key, count in counts.items() if key.startswith(calls)),
        )
        for kind, calls in kinds.items()
    ]


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Measure the duration of some work, until the device has finished it."""
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
