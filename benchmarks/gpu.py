"""Measure training steps on a GPU beside other libraries': speed, memory, fraction of peak, waits.

    python -m benchmarks.gpu                     # one GPU, no network, under eight minutes
    python -m benchmarks.gpu --toy --out x.json  # on a CPU in seconds, to test the benchmark

All steps are complete (crops, masks, model, loss, optimiser) and in the same precision; peers get
images that are already cropped. Images are random pixels, which cost the same.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.figure import Figure
from benchmarks.gpu_step import (
    CHANNELS,
    Size,
    asked,
    our_step,
    seconds,
    step_module,
    step_spec,
    timed,
    waits,
)
from benchmarks.mae_peers import (
    MISSING,
    TRANSFORMERS,
    Step,
    stable_pretraining_step,
    transformers_step,
)
from pmae.basis.pca import fit_pca
from pmae.seeding import generator
from pmae.training.environment import computes_bf16

OUT = Path(__file__).parent / "gpu.json"


@dataclass(frozen=True)
class Plan:
    """Sizes and durations of a measurement.

    Attributes:
        sizes: of the models.
        seconds: to repeat each step for.
        square: edge length of the matrix product that measures the peak.
        fit: number of images, and values of each, for the basis fit.
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
    """Measure all figures; prints a line for a peer that is not installed."""
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
    """Measure a step: speed beside the peers', fraction of the peak, memory, device traffic."""
    name = f"{method.upper()} step, {size.name}, {'bf16' if bf16 else 'fp32'}"
    module = step_module(size, method, bf16=bf16)
    operations, copies = asked(step_module(size, method, bf16=False))
    ours, memory = timed(our_step(module, device), size.batch, plan.seconds, device)
    with FlopCounterMode(display=False) as counter:
        our_step(module, device)()
    share = counter.get_total_flops() * ours / size.batch / peak
    found = [
        Figure(f"{name}, share of the peak", "", share),
        Figure(f"{name}, operations", "", operations),
        Figure(f"{name}, copies to the device", "", copies),
        *waits(name, our_step(module, device), device),
    ]
    if memory is not None:
        found.append(Figure(f"{name}, memory", "GiB", memory / 2**30))
    del module
    peers = _peers(size, device, bf16=bf16) if method == "mae" else []
    for peer_name, step in peers:
        theirs, _ = timed(step, size.batch, plan.seconds, device)
        ratio = ours / theirs
        found.append(Figure(name, "images/s", ours, peer_name, theirs, ratio, 1.0, ratio >= 1))
    return found if peers else [Figure(name, "images/s", ours), *found]


def _peers(size: Size, device: torch.device, *, bf16: bool) -> list[tuple[str, Step]]:
    spec = step_spec(size, "mae", bf16=bf16).model
    images = torch.randn(size.batch, CHANNELS, size.pixels, size.pixels, device=device)
    found = [(TRANSFORMERS, transformers_step(spec, images, 0.75, bf16=bf16))]
    other = stable_pretraining_step(spec, images, 0.75, bf16=bf16)
    if other is None:
        print(MISSING)
        return found
    return [*found, other]


def _peak(edge: int, device: torch.device, *, bf16: bool) -> float:
    """FLOP/s of a square matrix product: the best of ten repetitions."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    left, right = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
    return 2 * edge**3 / min(seconds(lambda: left @ right, device) for _ in range(10))


def _basis_fit(size: tuple[int, int], device: torch.device) -> Figure:
    count, pixels = size
    images: Tensor = torch.randn(count, pixels, generator=generator(0, "basis")).to(device)
    best = min(seconds(lambda: fit_pca(images.split(1024)), device) for _ in range(2))
    return Figure(f"basis fit, {count:,} images of {pixels:,} values", "s", best)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--toy", action="store_true", help="a tiny size, on a GPU or the CPU")
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
