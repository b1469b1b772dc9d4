"""Our steps on a GPU beside other libraries': speed, memory, share of the card's peak, what waits.

    python -m benchmarks.gpu                     # one GPU, no network, under eight minutes
    python -m benchmarks.gpu --toy --out x.json  # the same on a CPU in seconds, which says nothing

All steps are whole ones (crops, masks, model, loss, optimiser) in the same precision; peers get
images that are cropped already. Random pixels stand for images: they cost the same.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.device_traffic import DeviceTraffic, Unread
from benchmarks.figure import Figure
from benchmarks.mae_peers import (
    MISSING,
    TRANSFORMERS,
    Step,
    stable_pretraining_step,
    transformers_step,
)
from pmae.basis.basis import Basis
from pmae.basis.pca import fit_pca
from pmae.data.images import ImageData, MemorySplit
from pmae.data.transforms.standardize import PixelStatistics
from pmae.methods.base import method_for
from pmae.seeding import generator
from pmae.spec import ExperimentSpec, resolve
from pmae.training.environment import computes_bf16
from pmae.training.module import PretrainModule

OUT = Path(__file__).parent / "gpu.json"
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


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        sizes: of the models.
        seconds: for which each step is repeated.
        square: edge length of the product that the peak is measured by.
        fit: images and their values, of the basis fit.
    """

    sizes: tuple[Size, ...]
    seconds: float
    square: int
    fit: tuple[int, int]


_VIT_T = {"preset": "vit_tiny", "patch_size": 8}
FULL = Plan(
    (
        Size("ViT-T/8, 32 px", _VIT_T, 32, 512),
        Size("ViT-T/8, 64 px", _VIT_T, 64, 512),
        Size("ViT-B/16, 224 px", {"preset": "vit_base", "patch_size": 16}, 224, 128, 1000),
    ),
    seconds=5,
    square=8192,
    fit=(20_000, 3072),
)
_TINY = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2, "decoder_embed_dim": 16}
TOY = Plan(
    (Size("toy", _TINY | {"decoder_depth": 1, "decoder_num_heads": 2}, 8, 8),),
    seconds=0.05,
    square=128,
    fit=(200, 48),
)


def measure(plan: Plan, device: torch.device) -> list[Figure]:
    """All figures; says on standard output what is left out."""
    bf16 = computes_bf16(device)
    precision = "bf16" if bf16 else "fp32"
    peak = _peak(plan.square, device, bf16=bf16)
    name = f"peak: product of {plan.square} x {plan.square}, {precision}"
    found = [Figure(name, "TFLOP/s", peak / 1e12)]
    for size in plan.sizes:
        for method in ("pmae", "mae"):
            found += _of_step(plan, size, method, device, peak, bf16=bf16)
    return [*found, _basis_fit(plan.fit, device)]


def _of_step(
    plan: Plan, size: Size, method: str, device: torch.device, peak: float, *, bf16: bool
) -> list[Figure]:
    """Speed beside the peers', share of the peak, memory, and what is asked of the device."""
    name = f"{method.upper()} step, {size.name}, {'bf16' if bf16 else 'fp32'}"
    module = _module(size, method, bf16=bf16)
    operations, copies = _asked(_module(size, method, bf16=False))
    ours, memory = _timed(_our_step(module, device), size.batch, plan.seconds, device)
    with FlopCounterMode(display=False) as counter:
        _our_step(module, device)()
    share = counter.get_total_flops() * ours / size.batch / peak
    found = [
        Figure(f"{name}, share of the peak", "", share),
        Figure(f"{name}, operations", "", operations),
        Figure(f"{name}, copies to the device", "", copies),
        *_waits(name, _our_step(module, device), device),
    ]
    if memory is not None:
        found.append(Figure(f"{name}, memory", "GiB", memory / 2**30))
    del module
    peers = _peers(size, device, bf16=bf16) if method == "mae" else []
    for peer_name, step in peers:
        theirs, _ = _timed(step, size.batch, plan.seconds, device)
        ratio = ours / theirs
        found.append(Figure(name, "images/s", ours, peer_name, theirs, ratio, 1.0, ratio >= 1))
    return found if peers else [Figure(name, "images/s", ours), *found]


def _peers(size: Size, device: torch.device, *, bf16: bool) -> list[tuple[str, Step]]:
    spec = _spec(size, "mae", bf16=bf16).model
    images = torch.randn(size.batch, CHANNELS, size.pixels, size.pixels, device=device)
    found = [(TRANSFORMERS, transformers_step(spec, images, 0.75, bf16=bf16))]
    other = stable_pretraining_step(spec, images, 0.75, bf16=bf16)
    if other is None:
        print(MISSING)
        return found
    return [*found, other]


def _spec(size: Size, method: str, *, bf16: bool) -> ExperimentSpec:
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


def _module(size: Size, method: str, *, bf16: bool) -> PretrainModule:
    """A module on the CPU."""
    spec, noise = _spec(size, method, bf16=bf16), generator(0, "order")
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
    """Any orthonormal one."""
    count = components or pixels
    square = torch.randn(pixels, count, generator=generator(0, "basis"))
    spectrum = 0.999 ** torch.arange(count, dtype=torch.float64)
    return Basis(torch.linalg.qr(square).Q.T.contiguous(), spectrum / spectrum.sum())


def _our_step(module: PretrainModule, device: torch.device) -> Step:
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


def _asked(module: PretrainModule) -> tuple[int, int]:
    """Operations that a step asks of a device, without the optimiser, and copies to it."""
    device = torch.device("meta")
    _move(module, device)
    module.loss = Unread()
    module.training_step(0).backward()
    with DeviceTraffic(device) as traffic:
        module.training_step(1).backward()
    return traffic.operations, len(traffic.copies)


def _timed(
    step: Step, batch: int, seconds: float, device: torch.device
) -> tuple[float, int | None]:
    """Images a second, and the most memory of the card that was held."""
    for _ in range(3):
        step()
    _wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - began < seconds:
        step()
        steps += 1
    _wait(device)
    speed = steps * batch / (time.perf_counter() - began)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return speed, memory


def _waits(name: str, step: Step, device: torch.device) -> list[Figure]:
    """Kernels, copies and waits of a step as torch's profiler counts them; nothing on a CPU."""
    if device.type != "cuda":
        return []
    step()
    step()
    _wait(device)
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


def _peak(edge: int, device: torch.device, *, bf16: bool) -> float:
    """FLOP/s of a square product: the best of some repetitions."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    left, right = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
    return 2 * edge**3 / min(_seconds(lambda: left @ right, device) for _ in range(10))


def _basis_fit(size: tuple[int, int], device: torch.device) -> Figure:
    count, pixels = size
    images: Tensor = torch.randn(count, pixels, generator=generator(0, "basis")).to(device)
    seconds = min(_seconds(lambda: fit_pca(images.split(1024)), device) for _ in range(2))
    return Figure(f"basis fit, {count:,} images of {pixels:,} values", "s", seconds)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--toy", action="store_true", help="a tiny size, on whatever there is")
    parser.add_argument("--out", type=Path, default=OUT, help="JSON file (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not options.toy and not torch.cuda.is_available():
        parser.error("there is no GPU; --toy runs a tiny size on the CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    print(f"{card}, torch {torch.__version__}\n")
    print("| figure | ours | peer | ratio | goal |\n|---|---|---|---|---|")
    figures = measure(TOY if options.toy else FULL, device)
    for figure in figures:
        print(figure.row())
    facts = {"device": card, "torch": torch.__version__}
    rows = [asdict(figure) | facts for figure in figures]
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
