"""Measure the input pipeline on one core: from uint8 images to a standardised batch and its mask.

``python -m benchmarks.augmentation`` prints the table; ``benchmarks.run`` records the figure at
32 pixels.

The peer is the data loader of the method's reference: for each image a PIL crop (RandomResizedCrop,
bicubic, antialiased), flip, tensor, per-pixel standardisation, and a permutation of all D
components. Only the first permutation of a batch is used for its mask, and ours draws no other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision import transforms

from pmae.data.images import MemorySplit
from pmae.data.transforms.augment import augment
from pmae.data.transforms.standardize import PixelStatistics
from pmae.masking import random_component_mask
from pmae.seeding import generator
from pmae.spec import AugmentationSpec

ROUNDS = 9
SIZES = ((32, 512), (64, 512), (224, 64))
"""Resolution and batch size."""
PEER = f"PIL and torchvision {torchvision.__version__}, image by image"


@dataclass(frozen=True)
class Speed:
    """Images a second of both pipelines."""

    resolution: int
    batch: int
    ours: float
    peer: float

    @property
    def ratio(self) -> float:
        """Above 1: ours is faster."""
        return self.ours / self.peer


def measure(resolution: int, batch: int) -> Speed:
    """Measure both pipelines in turns on one thread, by medians of processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    noise = torch.Generator().manual_seed(0)
    shape = (3, resolution, resolution)
    images = torch.randint(0, 256, (2 * batch, *shape), dtype=torch.uint8, generator=noise)
    mean, std = torch.rand(shape, generator=noise), 0.1 + torch.rand(shape, generator=noise)
    pixels = PixelStatistics(mean, std)
    times = _medians(_ours(images, batch, pixels), _per_image(images, batch, pixels))
    torch.set_num_threads(threads)
    return Speed(resolution, batch, batch / times[0], batch / times[1])


def _ours(images: Tensor, batch: int, pixels: PixelStatistics) -> Callable[[int], object]:
    spec = AugmentationSpec(horizontal_flip=True)
    split = MemorySplit(images, torch.zeros(len(images), dtype=torch.int64))
    num_components = images[0].numel()
    variance = torch.full((num_components,), 1 / num_components, dtype=torch.float64)

    def run(turn: int) -> tuple[Tensor, Tensor]:
        indices = torch.randperm(len(split), generator=generator(0, "order", turn))[:batch]
        chosen = split.take(indices).images
        standardized = pixels.standardize(augment(chosen, spec, generator(0, "augment", turn)))
        return standardized, random_component_mask(
            variance, 0.2, generator(0, "mask", turn), count="reference"
        )

    return run


def _per_image(images: Tensor, batch: int, pixels: PixelStatistics) -> Callable[[int], object]:
    resolution, num_components = images.shape[-1], images[0].numel()
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    bicubic = transforms.InterpolationMode.BICUBIC
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(resolution, (0.2, 1), interpolation=bicubic),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
    )

    def run(turn: int) -> tuple[Tensor, list[Tensor]]:
        order = torch.randperm(len(pictures), generator=generator(0, "order", turn))[:batch]
        rows = [(transform(pictures[index]) - pixels.mean) / pixels.std for index in order.tolist()]
        return torch.stack(rows), [torch.randperm(num_components) for _ in rows]

    return run


def _medians(*works: Callable[[int], object]) -> list[float]:
    """Median processor time of each work in seconds, in turns after one round of warm-up.

    Waiting for a busy processor does not count.
    """
    times: list[list[float]] = [[] for _ in works]
    for turn in range(ROUNDS + 1):
        for index, work in enumerate(works):
            began = time.process_time()
            work(turn)
            if turn:
                times[index].append(time.process_time() - began)
    return [statistics.median(found) for found in times]


def main() -> None:
    """Print the table."""
    print(f"images a second on one core, RGB; the peer is {PEER}")
    print("| pixels | batch | ours | peer | ratio |")
    print("|---|---|---|---|---|")
    for resolution, batch in SIZES:
        speed = measure(resolution, batch)
        print(
            f"| {resolution} | {batch} | {speed.ours:,.0f} | {speed.peer:,.0f} "
            f"| {speed.ratio:.1f} |"
        )


if __name__ == "__main__":
    main()
