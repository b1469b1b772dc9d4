"""Measure a training step beside ``transformers``' ViTMAE, in bf16 and fp32, by size and by part.

    python -m benchmarks.training_step                  # all measurements
    python -m benchmarks.training_step peer bf16        # some of peer, bf16, shares, sizes, profile

One thread, 32 px RGB, patches of 8, MAE's decoder. Works take turns; times are medians of processor
time, so that waiting for a busy processor does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from benchmarks.figure import Figure, median_cpu_seconds, peak_bytes
from benchmarks.mae_peers import MISSING, stable_pretraining_step
from benchmarks.step_model import (
    BATCH,
    PATCH,
    PATCHES,
    PIXELS,
    ROUNDS,
    our_step,
    step_images,
    step_model,
    step_optimizer,
    step_spec,
    update,
)
from benchmarks.step_parts import print_parts
from pmae.models.patches import patchify
from pmae.spec import MODEL_PRESETS
from pmae.training.environment import computes_bf16

SQUARE = 1536
PEER = f"transformers {transformers.__version__} ViTMAE"


def peer() -> list[Figure]:
    """Compare the step with every patch (PMAE's) and with a quarter of them (MAE's), in fp32."""
    found = []
    for ratio, what in ((0.0, "every patch"), (0.75, "a quarter of the patches")):
        ours, theirs = median_cpu_seconds(ROUNDS, our_step("vit_tiny", ratio), _peer_step(ratio))
        name = f"training step, ViT-T, {PIXELS} px, {what} encoded, fp32"
        found.append(_figure(name, BATCH / ours, PEER, BATCH / theirs, 0.95))
    return found + _stable_pretraining()


def _stable_pretraining() -> list[Figure]:
    """Compare MAE's step with stable-pretraining's; prints a line if that is not installed."""
    theirs = stable_pretraining_step(step_spec("vit_tiny").model, step_images(), 0.75, bf16=False)
    if theirs is None:
        print(MISSING)
        return []
    name, step = theirs
    ours, other = median_cpu_seconds(ROUNDS, our_step("vit_tiny", 0.75), step)
    tokens = f"its decoder has {PATCHES} tokens, ours {PATCHES + 1}"
    what = f"MAE's training step, ViT-T, {PIXELS} px, fp32 ({tokens})"
    return [_figure(what, BATCH / ours, name, BATCH / other, PATCHES / (PATCHES + 1))]


def shares() -> list[Figure]:
    """Measure MAE's step as a fraction of the processor's peak, that of a square matrix product.

    In bf16 there is a goal only if the processor is faster than in fp32, which it is not with
    AVX512-BF16 alone, without AMX.
    """
    steps = {bf16: our_step("vit_tiny", 0.75, bf16=bf16) for bf16 in (False, True)}
    products = {bf16: _square_product(bf16=bf16) for bf16 in (False, True)}
    with FlopCounterMode(display=False) as counter:
        steps[False]()
    work = counter.get_total_flops()
    if not computes_bf16(torch.device("cpu")):
        print("this CPU emulates bf16: the fraction of the peak is measured in fp32 only")
        steps.pop(True)
    found: list[Figure] = []
    peaks: dict[bool, float] = {}
    for bf16, step in steps.items():
        seconds, product = median_cpu_seconds(ROUNDS, step, products[bf16])
        peaks[bf16] = 2 * SQUARE**3 / product / 1e9
        speed, goal = work / seconds / 1e9, 0.6 if bf16 else 0.85
        ratio, faster = speed / peaks[bf16], not bf16 or peaks[True] > peaks[False]
        figure = Figure(
            f"MAE's training step, ViT-T, {PIXELS} px, {'bf16' if bf16 else 'fp32'}",
            "GFLOP/s",
            speed,
            f"product of {SQUARE} x {SQUARE}, as fast as it gets",
            peaks[bf16],
            ratio,
            goal if faster else None,
            ratio >= goal if faster else None,
            "" if faster else "no goal: this CPU's bf16 is no faster than its fp32",
        )
        found.append(figure)
    return found


def _square_product(*, bf16: bool) -> Callable[[], object]:
    square = torch.randn(SQUARE, SQUARE).to(torch.bfloat16 if bf16 else torch.float32)
    return lambda: square @ square


def bf16() -> list[Figure]:
    """Compare our step in bf16 with fp32; nothing if the CPU emulates bf16."""
    if not computes_bf16(torch.device("cpu")):
        return []
    fast, plain = median_cpu_seconds(
        ROUNDS, our_step("vit_tiny", 0.0, bf16=True), our_step("vit_tiny", 0.0)
    )
    name = f"training step, ViT-T, {PIXELS} px, every patch encoded, bf16"
    return [_figure(name, BATCH / fast, "the same step in fp32", BATCH / plain, 1.4)]


def _figure(name: str, ours: float, peer_name: str, theirs: float, goal: float) -> Figure:
    ratio = ours / theirs
    return Figure(name, "images/s", ours, peer_name, theirs, ratio, goal, ratio >= goal)


def figures() -> list[Figure]:
    """Measure all comparisons."""
    return peer() + bf16() + shares()


def _peer_step(ratio: float) -> Callable[[], object]:
    # At mask ratio 0 the peer's own loss is 0/0, so both steps use a loss on every patch.
    config = ViTMAEConfig(
        hidden_size=192,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=PIXELS,
        patch_size=PATCH,
        mask_ratio=ratio,
    )
    model, images = ViTMAEForPreTraining(config), step_images()
    optimizer, target = step_optimizer(model), patchify(images, PATCH)

    def run() -> None:
        update(optimizer, (model(images).logits - target).square().mean())

    return run


def size(preset: str) -> dict[str, float]:
    """Measure speed and memory of one size; run it in a separate process, for its peak memory."""
    step = our_step(preset, 0.0)
    (seconds,) = median_cpu_seconds(ROUNDS, step)
    parameters = sum(value.numel() for value in step_model(preset).parameters())
    return {
        "parameters": parameters,
        "images_per_second": BATCH / seconds,
        "peak_bytes": peak_bytes(),
    }


def sizes() -> list[Figure]:
    """Measure speed and memory of each preset size."""
    found = []
    for preset in MODEL_PRESETS:
        command = [sys.executable, "-m", "benchmarks.training_step", "--size", preset]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        cost = json.loads(answer.splitlines()[-1])
        name = f"training step, {preset}, {cost['parameters'] / 1e6:.1f} M, batch {BATCH}, fp32"
        found.append(Figure(name, "images/s", cost["images_per_second"]))
        found.append(Figure(f"{name}, peak memory", "GiB", cost["peak_bytes"] / 2**30))
    return found


def _print_figures(found: list[Figure]) -> None:
    if not found:
        print("not measured: this CPU emulates bf16")
        return
    print("| figure | ours | peer | ratio | goal |\n|---|---|---|---|---|")
    for figure in found:
        print(figure.row())


def main() -> None:
    """Print the tables."""
    works: dict[str, Callable[[], None]] = {
        "peer": lambda: _print_figures(peer()),
        "shares": lambda: _print_figures(shares()),
        "bf16": lambda: _print_figures(bf16()),
        "sizes": lambda: _print_figures(sizes()),
        "profile": print_parts,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_step")
    parser.add_argument("names", nargs="*", choices=[*works, []], help="default: all of them")
    parser.add_argument("--size", choices=list(MODEL_PRESETS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.size:
        print(json.dumps(size(arguments.size)))
        return
    for name in arguments.names or works:
        works[name]()


if __name__ == "__main__":
    main()
