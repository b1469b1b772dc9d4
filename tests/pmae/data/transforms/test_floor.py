"""The floor of the pixels' standard deviation: what augmented images have after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.pixel_floor import (
    as_split,
    augmented_variance,
    bordered_images,
    cell_images,
    natural_images,
)
from pmae.data.images import MemorySplit
from pmae.data.locate import DEBIAN_FASHION_MNIST, FASHION_MNIST_FILES
from pmae.data.registry import load_data
from pmae.data.transforms.floor import floor_warning, train_statistics
from pmae.settings import StorageSettings
from pmae.spec import AugmentationSpec, DatasetSpec
from tests.pmae.data.formats import write_fashion_mnist, write_idx, write_image

CROPS = AugmentationSpec(horizontal_flip=True)


def clothes(count: int) -> np.ndarray:
    """Bright rectangles of many sizes about the middle of 28 black pixels, as Fashion-MNIST."""
    noise = np.random.default_rng(0)
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    for image in images:
        height, width = noise.integers(6, 14), noise.integers(3, 13)
        image[14 - height : 14 + height, 14 - width : 14 + width] = noise.integers(60, 256)
    return images


def _digits(_root: Path) -> str:
    return "digits"


def _fashion_mnist(root: Path) -> str:
    """Debian's files where they are installed, else files of the true format."""
    if not DEBIAN_FASHION_MNIST.is_dir():
        folder = root / "FashionMNIST" / "raw"
        write_fashion_mnist(folder, train=1000, test=10, zipped=True)
        write_idx(folder / FASHION_MNIST_FILES["train_images"], clothes(1000), zipped=True)
    return "fashion_mnist"


def _npz(root: Path) -> str:
    """As BloodMNIST: a cell on a ground that hardly varies."""
    labels = np.arange(600)[:, None] % 3
    np.savez(root / "cells.npz", train_images=cell_images(600), train_labels=labels)
    return "npz:cells"


def _bordered(inner: int, fill: int) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        for index, image in enumerate(bordered_images(300, 32, inner, fill)):
            write_image(root / "framed" / "ab"[index % 2] / f"{index}.png", image)
        return "folder:framed"

    return write


@pytest.mark.parametrize("crop", [(0.2, 1.0), (0.8, 1.0)])
@pytest.mark.parametrize(
    "write",
    [_digits, _fashion_mnist, _npz, _bordered(26, 0), _bordered(20, 255), _bordered(16, 122)],
    ids=["digits", "fashion_mnist", "npz", "black border", "white border", "grey border"],
)
def test_augmented_images_have_half_to_twice_unit_variance(
    storage: StorageSettings, write: Callable[[Path], str], crop: tuple[float, float]
) -> None:
    storage.data_dir.mkdir(parents=True)
    spec = DatasetSpec(name=write(storage.data_dir), max_train_images=4000)
    resolution = {"digits": 8, "folder:framed": 32}.get(spec.name, 28)
    data = load_data(spec.model_copy(update={"resolution": resolution}), storage)
    augmentation = CROPS.model_copy(update={"crop_scale": crop})
    variance, _ = augmented_variance(data.train, None, augmentation)
    assert 0.5 < variance < 2


def test_natural_images_keep_their_plain_statistics() -> None:
    train = as_split(natural_images(500, 32))
    statistics, floor = train_statistics(train, None, CROPS)
    pixels = train.images.double() / 255
    torch.testing.assert_close(statistics.mean, pixels.mean(0).float())
    torch.testing.assert_close(statistics.std, pixels.std(0, unbiased=False).float())
    assert floor_warning(statistics, floor, chosen=True) is None


def test_a_floor_that_is_given_is_kept_and_pixels_at_it_are_counted() -> None:
    images = torch.zeros(64, 1, 2, 2, dtype=torch.uint8)
    images[::2, 0, 0, 0] = 255
    train = MemorySplit(images, torch.zeros(64, dtype=torch.int64))
    statistics, floor = train_statistics(train, 0.02, CROPS)
    assert floor == 0.02
    assert statistics.std.flatten().tolist() == pytest.approx([0.5, 0.02, 0.02, 0.02])
    sentence = floor_warning(statistics, floor, chosen=False)
    assert sentence is not None
    assert "3 of 4 pixels" in sentence
    assert "0.02" in sentence
    chosen, higher = train_statistics(train, None, CROPS)
    assert 0.02 < higher == float(f"{higher:.3f}")
    assert float(chosen.std.min()) == pytest.approx(higher)


def test_the_floor_is_a_function_of_the_images_and_crops_alone() -> None:
    train = as_split(bordered_images(200, 16, 10, 0))
    (first, floor), (second, again) = (train_statistics(train, None, CROPS) for _ in range(2))
    assert floor == again
    assert torch.equal(first.std, second.std)
    without = AugmentationSpec(crop_scale=(1, 1), horizontal_flip=False)
    assert train_statistics(train, None, without)[1] == 0.02
