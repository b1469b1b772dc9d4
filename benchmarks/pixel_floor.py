"""Measure the variance of augmented images with and without a floor chosen from the data.

    python -m benchmarks.pixel_floor

Prints the table of docs/datasets.md: the mean square of standardised training images under the
default crops, for a floor of the standard deviation of 0.02, and for the one that
:mod:`pmae.data.transforms.floor` chooses. Natural images, borders and cells are synthetic.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pmae.data.images import MemorySplit, Split
from pmae.data.locate import locate
from pmae.data.registry import load_data
from pmae.data.transforms.augment import augment
from pmae.data.transforms.floor import MIN_FLOOR, train_statistics
from pmae.settings import StorageSettings
from pmae.spec import AugmentationSpec, DatasetSpec, ExperimentSpec, resolve

_IMAGES = 4000


def natural_images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Draw noise with the spectrum of natural images: ``(count, size, size, 3)`` uint8.

    Amplitudes fall as 1 / frequency (Field 1987), and channels share most of their content.
    """
    noise = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / size)
    shared = noise.normal(size=(count, 1, size, size))
    white = shared + 0.4 * noise.normal(size=(count, 3, size, size))
    values = np.fft.ifft2(np.fft.fft2(white) / frequency).real
    pixels = 0.48 + 0.25 * (values - values.mean()) / values.std()
    images: np.ndarray = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    return images.transpose(0, 2, 3, 1)


def bordered_images(count: int, size: int, inner: int, fill: int, seed: int = 0) -> np.ndarray:
    """Draw natural images of ``inner`` pixels within a border of the value ``fill``."""
    images = np.full((count, size, size, 3), fill, dtype=np.uint8)
    start = (size - inner) // 2
    inside = slice(start, start + inner)
    images[:, inside, inside] = natural_images(count, inner, seed)
    return images


def cell_images(count: int, seed: int = 0) -> np.ndarray:
    """Draw dark disks near the centre of a light, nearly constant ground: 28 pixels, RGB."""
    noise = np.random.default_rng(seed)
    rows, columns = np.mgrid[:28, :28]
    centre = 14 + 1.5 * noise.normal(size=(2, count, 1, 1))
    radius = noise.uniform(5, 8, (count, 1, 1))
    outside = np.hypot(rows - centre[0], columns - centre[1]) - radius
    cell = 1 / (1 + np.exp(outside))[..., None]
    colour = np.array([0.55, 0.35, 0.6]) + 0.08 * noise.normal(size=(count, 1, 1, 3))
    ground = np.array([0.9, 0.85, 0.82]) + 0.02 * noise.normal(size=(count, 1, 1, 3))
    pixels = (ground * (1 - cell) + colour * cell).clip(0, 1)
    images: np.ndarray = np.rint(255 * pixels).astype(np.uint8)
    return images


def augmented_variance(
    train: Split, floor: float | None, augmentation: AugmentationSpec
) -> tuple[float, float]:
    """Measure the mean square of standardised, augmented training images; also return the floor."""
    statistics, used = train_statistics(train, floor, augmentation)
    images, noise = train.in_memory().images, torch.Generator().manual_seed(99)
    drawn = [augment(images, augmentation, noise) for _ in range(1 + 2000 // len(images))]
    return float(statistics.standardize(torch.cat(drawn)).square().mean()), used


def as_split(images: np.ndarray) -> MemorySplit:
    """Make a split of images ``(n, height, width, 3)`` uint8, all of one class."""
    pixels: Tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return MemorySplit(pixels, torch.zeros(len(images), dtype=torch.int64))


def _splits() -> Iterator[tuple[str, Split, bool]]:
    settings = StorageSettings()
    for name in ("digits", "fashion_mnist"):
        if locate(name, settings).available:
            dataset = DatasetSpec(name=name, max_train_images=_IMAGES)
            spec = resolve(ExperimentSpec(dataset=dataset))
            flip = bool(spec.augmentation.horizontal_flip)
            yield name, load_data(spec.dataset, settings).train, flip
    yield "natural, 32 px", as_split(natural_images(_IMAGES, 32)), True
    yield "cells, 28 px", as_split(cell_images(_IMAGES)), True
    for inner, fill in ((28, 0), (24, 0), (24, 255), (24, 122), (16, 0)):
        name = f"natural, {inner} px within 32, border {fill}"
        yield name, as_split(bordered_images(_IMAGES, 32, inner, fill)), True


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| train images | variance, floor 0.02 | floor chosen | variance | at the floor |")
    print("|---|---|---|---|---|")
    for name, train, flip in _splits():
        augmentation = AugmentationSpec(horizontal_flip=flip)
        before, _ = augmented_variance(train, MIN_FLOOR, augmentation)
        after, floor = augmented_variance(train, None, augmentation)
        std = train_statistics(train, floor, augmentation)[0].std
        share = float((std <= torch.tensor(floor)).float().mean())
        print(f"| {name} | {before:.2f} | {floor:.3f} | {after:.2f} | {share:.0%} |")


if __name__ == "__main__":
    main()
