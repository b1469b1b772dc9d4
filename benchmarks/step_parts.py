"""Time each part of PMAE's training step on a CPU."""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.step_model import (
    BATCH,
    CHANNELS,
    PIXELS,
    ROUNDS,
    step_model,
    step_optimizer,
    step_spec,
)
from pmae.basis.basis import Basis
from pmae.data.images import MemorySplit
from pmae.data.transforms.augment import augment
from pmae.data.transforms.standardize import PixelStatistics
from pmae.methods.pmae import PMAE
from pmae.seeding import generator


def profile() -> dict[str, float]:
    """Measure the median seconds of each part of PMAE's step, ViT-T, fp32."""
    spec, model = step_spec("vit_tiny"), step_model("vit_tiny")
    noise = generator(0, "order")
    pixels = torch.randint(0, 256, (512, CHANNELS, PIXELS, PIXELS), dtype=torch.uint8)
    split = MemorySplit(pixels, torch.zeros(512, dtype=torch.int64))
    ones = torch.ones(CHANNELS, PIXELS, PIXELS)
    statistics_of = PixelStatistics(ones / 2, ones / 4)
    num_pixels = ones.numel()
    components, _ = torch.linalg.qr(torch.randn(num_pixels, num_pixels, generator=noise))
    share = 0.999 ** torch.arange(num_pixels, dtype=torch.float64)
    method = PMAE(Basis(components, share / share.sum()))
    optimizer = step_optimizer(model)
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


def print_parts() -> None:
    """Print the fraction of each part."""
    parts = profile()
    total = sum(parts.values())
    print(f"| part of a step (batch {BATCH}, {total:.2f} s) | share |\n|---|---|")
    for name, seconds in parts.items():
        print(f"| {name} | {100 * seconds / total:.1f} % |")
