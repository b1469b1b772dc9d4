"""Floor of the pixels' standard deviation: chosen from the data if the spec gives none.

Standardisation divides a nearly constant pixel by a tiny deviation. A crop that moves another part
of the picture onto it gives values hundreds of times as large as anywhere else.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pmae.data.images import Split
from pmae.data.transforms.augment import augment
from pmae.data.transforms.standardize import PixelStatistics, pixel_statistics
from pmae.seeding import generator
from pmae.spec import AugmentationSpec

MIN_FLOOR = 0.02
MAX_VARIANCE = 1.1
_MAX_IMAGES = 10_000
_MIN_DRAWS = 4096
_BATCH = 1024
_SEED = 0
"""Seed of the images and crops: runs of any seed share their statistics."""


def train_statistics(
    train: Split, floor: float | None, augmentation: AugmentationSpec
) -> tuple[PixelStatistics, float]:
    """Compute the mean and standard deviation of every pixel over a train split.

    Args:
        train: the images.
        floor: minimal standard deviation, of pixels in [0, 1]; None: :func:`choose_floor`.
        augmentation: of training images; resolved.

    Returns:
        The statistics on the CPU, and their floor.
    """
    plain = pixel_statistics(batch.images for batch in train.in_order(_BATCH))
    if floor is None:
        floor = choose_floor(plain, augmented_moment(train, plain.mean, augmentation))
    return plain.with_floor(floor), floor


def choose_floor(plain: PixelStatistics, moment: Tensor) -> float:
    """Choose the smallest floor at which augmented images have at most 1.1 times unit variance.

    Natural images, whose pixels all vary alike, are below that bound anyway: their floor is 0.02,
    and has no effect.

    Args:
        plain: statistics without a floor.
        moment: ``(channels, height, width)`` float64, see :func:`augmented_moment`.

    Returns:
        A multiple of 0.001, from 0.02 to 1, of pixels in [0, 1].
    """
    std = plain.std.double()

    def variance(floor: float) -> float:
        return float((moment / std.clamp(min=floor).square()).mean())

    low, high = MIN_FLOOR, 1.0
    if variance(low) <= MAX_VARIANCE:
        return low
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if variance(middle) > MAX_VARIANCE else (low, middle)
    return math.ceil(high * 1000) / 1000


def augmented_moment(train: Split, mean: Tensor, augmentation: AugmentationSpec) -> Tensor:
    """Measure the mean squared deviation of augmented pixels from the plain images' mean.

    Reads at most 10,000 images, and draws at least 4,096 crops, each image equally often.

    Args:
        train: the images.
        mean: ``(channels, height, width)``, of pixels in [0, 1].
        augmentation: resolved.

    Returns:
        ``(channels, height, width)`` float64.
    """
    order = torch.randperm(len(train), generator=generator(_SEED, "std_floor"))
    indices = order[:_MAX_IMAGES].sort().values
    repeats = math.ceil(_MIN_DRAWS / len(indices))
    total = torch.zeros(train.image_shape, dtype=torch.float64)
    for position, batch in enumerate(train.batches(indices.split(_BATCH))):
        for repeat in range(repeats):
            noise = generator(_SEED, "std_floor", position * repeats + repeat)
            deviation = augment(batch.images, augmentation, noise).sub_(mean)
            total += deviation.square_().sum(dim=0, dtype=torch.float64)
    return total / (len(indices) * repeats)


def floor_warning(statistics: PixelStatistics, floor: float, *, chosen: bool) -> str | None:
    """Describe how many pixels are at the floor; None if there are none.

    Args:
        statistics: with the floor.
        floor: of the standard deviation.
        chosen: True = :func:`choose_floor` chose it.
    """
    std = statistics.std
    count = int((std <= torch.tensor(floor, dtype=std.dtype)).sum())
    if not count:
        return None
    reason = f", so that augmented images have at most {MAX_VARIANCE} times unit variance"
    return (
        f"dataset.std_floor: {count} of {std.numel()} pixels have a standard deviation below "
        f"{floor:g}, which is used instead{reason if chosen else ''}"
    )
