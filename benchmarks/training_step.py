"""A training step: ours beside ``transformers``' ViTMAE, bf16 beside fp32, each size, its parts.

    python -m benchmarks.training_step                  # all of it
    python -m benchmarks.training_step peer bf16        # of peer, bf16, shares, sizes, profile

One thread, 32 px RGB, patches of 8, MAE's decoder. Works take turns; times are medians of the
processor's time, so that time spent waiting for a processor that others use does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import transformers
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from benchmarks.figure import Figure, peak_bytes
from benchmarks.mae_peers import MISSING, stable_pretraining_step
from pmae.basis.basis import Basis
from pmae.data.images import MemorySplit
from pmae.data.transforms.augment import augment
from pmae.data.transforms.standardize import PixelStatistics
from pmae.masking import random_patch_mask, visible_indices
from pmae.methods.pmae import PMAE
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.models.patches import patchify
from pmae.seeding import generator
from pmae.spec import MODEL_PRESETS, DatasetSpec, ExperimentSpec, ModelSpec, resolve
from pmae.training.environment import computes_bf16

ROUNDS = 5
BATCH = 64
PIXELS, PATCH, CHANNELS = 32, 8, 3
PATCHES = (PIXELS // PATCH) ** 2
SQUARE = 1536
PEER = f"transformers {transformers.__version__} ViTMAE"


def peer() -> list[Figure]:
    """The step with every patch (PMAE's) and with a quarter of them (MAE's), fp32."""
    found = []
    for ratio, what in ((0.0, "every patch"), (0.75, "a quarter of the patches")):
        ours, theirs = _medians(_our_step("vit_tiny", ratio), _peer_step(ratio))
        name = f"training step, ViT-T, {PIXELS} px, {what} encoded, fp32"
        found.append(_figure(name, BATCH / ours, PEER, BATCH / theirs, 0.95))
    return found + _stable_pretraining()


def _stable_pretraining() -> list[Figure]:
    """MAE's step beside stable-pretraining's; nothing, and a line that says so, without it."""
    theirs = stable_pretraining_step(_spec("vit_tiny").model, _images(), 0.75, bf16=False)
    if theirs is None:
        print(MISSING)
        return []
    name, step = theirs
    ours, other = _medians(_our_step("vit_tiny", 0.75), step)
    tokens = f"its decoder has {PATCHES} tokens, ours {PATCHES + 1}"
    what = f"MAE's training step, ViT-T, {PIXELS} px, fp32 ({tokens})"
    return [_figure(what, BATCH / ours, name, BATCH / other, PATCHES / (PATCHES + 1))]


def shares() -> list[Figure]:
    """How near MAE's step comes to the processor's peak, a square matrix product, in its type.

    In bf16 there is a goal only where the processor is faster in it: with AVX512-BF16 and without
    AMX it is not.
    """
    steps = {bf16: _our_step("vit_tiny", 0.75, bf16=bf16) for bf16 in (False, True)}
    products = {bf16: _square_product(bf16=bf16) for bf16 in (False, True)}
    with FlopCounterMode(display=False) as counter:
        steps[False]()
    work = counter.get_total_flops()
    if not computes_bf16(torch.device("cpu")):
        print("this CPU emulates bf16: the step's share of the peak is judged in fp32 only")
        steps.pop(True)
    found: list[Figure] = []
    peaks: dict[bool, float] = {}
    for bf16, step in steps.items():
        seconds, product = _medians(step, products[bf16])
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
    """Our step in bf16 beside our step in fp32; nothing where it is emulated."""
    if not computes_bf16(torch.device("cpu")):
        return []
    fast, plain = _medians(_our_step("vit_tiny", 0.0, bf16=True), _our_step("vit_tiny", 0.0))
    name = f"training step, ViT-T, {PIXELS} px, every patch encoded, bf16"
    return [_figure(name, BATCH / fast, "the same step in fp32", BATCH / plain, 1.4)]


def _figure(name: str, ours: float, peer_name: str, theirs: float, goal: float) -> Figure:
    ratio = ours / theirs
    return Figure(name, "images/s", ours, peer_name, theirs, ratio, goal, ratio >= goal)


def figures() -> list[Figure]:
    """What is compared with something else."""
    return peer() + bf16() + shares()


def _spec(preset: str) -> ExperimentSpec:
    model = ModelSpec.model_validate({"preset": preset, "patch_size": PATCH})
    return resolve(ExperimentSpec(dataset=DatasetSpec(name="cifar10"), model=model))


def _model(preset: str) -> MaskedAutoencoder:
    return MaskedAutoencoder(_spec(preset).model, image_size=PIXELS, channels=CHANNELS, seed=0)


def _images(batch: int = BATCH) -> Tensor:
    return torch.randn(batch, CHANNELS, PIXELS, PIXELS, generator=generator(0, "order"))


def _optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    trained = [value for value in model.parameters() if value.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _our_step(preset: str, ratio: float, *, bf16: bool = False) -> Callable[[], object]:
    model, images = _model(preset), _images()
    optimizer, target = _optimizer(model), patchify(images, PATCH)
    visible = None
    if ratio:
        masked = random_patch_mask(len(images), PATCHES, ratio, generator(0, "mask"))
        visible = visible_indices(masked)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            prediction, _ = model(images, visible)
        _step(optimizer, (patchify(prediction.float(), PATCH) - target).square().mean())

    return run


def _peer_step(ratio: float) -> Callable[[], object]:
    # At mask ratio 0 the peer's own loss is 0/0, so both take one on every patch.
    config = ViTMAEConfig(
        hidden_size=192,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=PIXELS,
        patch_size=PATCH,
        mask_ratio=ratio,
    )
    model, images = ViTMAEForPreTraining(config), _images()
    optimizer, target = _optimizer(model), patchify(images, PATCH)

    def run() -> None:
        _step(optimizer, (model(images).logits - target).square().mean())

    return run


def _medians(*works: Callable[[], object]) -> list[float]:
    """Seconds of each work on the processor, in turns after one uncounted round."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(ROUNDS + 1):
        for index, work in enumerate(works):
            began = time.process_time()
            work()
            if turn:
                times[index].append(time.process_time() - began)
    return [statistics.median(found) for found in times]


def size(preset: str) -> dict[str, float]:
    """Speed and memory of one size; in a process of its own, whose peak is the size's."""
    step = _our_step(preset, 0.0)
    (seconds,) = _medians(step)
    parameters = sum(value.numel() for value in _model(preset).parameters())
    return {
        "parameters": parameters,
        "images_per_second": BATCH / seconds,
        "peak_bytes": peak_bytes(),
    }


def sizes() -> list[Figure]:
    """Speed and memory of each preset size."""
    found = []
    for preset in MODEL_PRESETS:
        command = [sys.executable, "-m", "benchmarks.training_step", "--size", preset]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        cost = json.loads(answer.splitlines()[-1])
        name = f"training step, {preset}, {cost['parameters'] / 1e6:.1f} M, batch {BATCH}, fp32"
        found.append(Figure(name, "images/s", cost["images_per_second"]))
        found.append(Figure(f"{name}, peak memory", "GiB", cost["peak_bytes"] / 2**30))
    return found


def profile() -> dict[str, float]:
    """Seconds of each part of PMAE's step, ViT-T, fp32: medians."""
    spec, model = _spec("vit_tiny"), _model("vit_tiny")
    noise = generator(0, "order")
    pixels = torch.randint(0, 256, (512, CHANNELS, PIXELS, PIXELS), dtype=torch.uint8)
    split = MemorySplit(pixels, torch.zeros(512, dtype=torch.int64))
    ones = torch.ones(CHANNELS, PIXELS, PIXELS)
    statistics_of = PixelStatistics(ones / 2, ones / 4)
    num_pixels = ones.numel()
    components, _ = torch.linalg.qr(torch.randn(num_pixels, num_pixels, generator=noise))
    share = 0.999 ** torch.arange(num_pixels, dtype=torch.float64)
    method = PMAE(Basis(components, share / share.sum()))
    optimizer = _optimizer(model)
    times: dict[str, list[float]] = {}

    def lap(name: str, began: float) -> float:
        now = time.process_time()
        times.setdefault(name, []).append(now - began)
        return now

    for step in range(ROUNDS + 1):
        began = time.process_time()
        batch = split.take(torch.randperm(512, generator=noise)[:BATCH]).images
        crops = generator(0, "augment", step)
        images = statistics_of.standardize(augment(batch, spec.augmentation, crops))
        began = lap("input", began)
        masked = method.draw(BATCH, spec.masking, generator(0, "mask", step)).masked
        masked_images = method.project(images, masked)
        began = lap("masking", began)
        tokens = model.encoder(masked_images.visible)
        began = lap("encoder, forward", began)
        prediction = model.decoder(tokens)
        began = lap("decoder, forward", began)
        loss = method.score(prediction, masked_images).loss
        began = lap("loss", began)
        gradient = torch.autograd.grad(loss, tokens, retain_graph=True)[0]
        lap("(a second pass, for the split of the backward)", began)
        began = time.process_time()
        loss.backward(inputs=[value for value in model.decoder.parameters() if value.requires_grad])
        began = lap("decoder, backward", began)
        trained = [value for value in model.encoder.parameters() if value.requires_grad]
        torch.autograd.backward([tokens], [gradient], inputs=trained)
        began = lap("encoder, backward", began)
        optimizer.step()
        optimizer.zero_grad()
        lap("optimiser", began)
    times.pop("(a second pass, for the split of the backward)")
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def _print_profile() -> None:
    parts = profile()
    total = sum(parts.values())
    print(f"| part of a step (batch {BATCH}, {total:.2f} s) | share |\n|---|---|")
    for name, seconds in parts.items():
        print(f"| {name} | {100 * seconds / total:.1f} % |")


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
        "profile": _print_profile,
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
