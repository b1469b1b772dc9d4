"""MedMNIST's npz files: colour and grey, all sizes, one class or several binary labels."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pmae.data.readers.npz import MEDMNIST_CLASS_NAMES, load_npz
from pmae.data.transforms.resize import resize
from pmae.errors import DataError, DatasetMissingError
from pmae.settings import StorageSettings
from pmae.spec.catalog import medmnist_file
from tests.pmae.data.conftest import Load
from tests.pmae.data.formats import medmnist_arrays, random_pixels, write_npz

PLENTY = 1 << 40


@pytest.mark.parametrize("compressed", [True, False])
def test_colour_images_with_official_splits(
    compressed: bool, storage: StorageSettings, load: Load
) -> None:
    arrays = medmnist_arrays(64, count=24, classes=8)
    write_npz(storage.data_dir / "bloodmnist_64.npz", arrays, compressed=compressed)
    data = load("bloodmnist", 64)
    for name, split in data.splits.items():
        images = torch.from_numpy(arrays[f"{name}_images"]).permute(0, 3, 1, 2)
        assert torch.equal(split.in_memory().images, images)
        assert split.labels.tolist() == arrays[f"{name}_labels"][:, 0].tolist()
    assert data.class_names == MEDMNIST_CLASS_NAMES["bloodmnist"]
    assert data.class_names[3] == "immature granulocyte"


@pytest.mark.parametrize(
    ("resolution", "file"),
    [
        (14, "dermamnist.npz"),
        (28, "dermamnist.npz"),
        (32, "dermamnist_64.npz"),
        (64, "dermamnist_64.npz"),
        (128, "dermamnist_128.npz"),
        (200, "dermamnist_224.npz"),
        (256, "dermamnist_224.npz"),
    ],
)
def test_a_resolution_is_served_by_the_next_larger_file(
    resolution: int, file: str, storage: StorageSettings, load: Load
) -> None:
    assert medmnist_file("dermamnist", resolution) == file
    with pytest.raises(DatasetMissingError, match=re.escape(f"looked for in {storage.data_dir}")):
        load("dermamnist", resolution)
    size = int(file.removeprefix("dermamnist").strip("_").removesuffix(".npz") or 28)
    arrays = medmnist_arrays(size, count=7, classes=7)
    write_npz(storage.data_dir / file, arrays)
    data = load("dermamnist", resolution)
    images = torch.from_numpy(arrays["test_images"]).permute(0, 3, 1, 2)
    assert torch.equal(data.test.in_memory().images, resize(images, resolution))
    assert data.image_shape == (3, resolution, resolution)


def test_grey_images_of_a_lab_are_split_where_it_did_not(
    storage: StorageSettings, load: Load
) -> None:
    arrays = {
        "train_images": random_pixels(100, 20, 20),
        "train_labels": np.arange(100, dtype=np.int64) % 5,
    }
    write_npz(storage.data_dir / "cells.npz", arrays)
    data = load("npz:cells", 20)
    assert data.image_shape == (1, 20, 20)
    assert (len(data.train), len(data.val), len(data.test)) == (70, 10, 20)
    assert data.class_names == ("0", "1", "2", "3", "4")
    together = torch.cat([split.in_memory().images for split in data.splits.values()])
    ours = sorted(image.numpy().tobytes() for image in together)
    assert ours == sorted(image.tobytes() for image in arrays["train_images"])


def test_several_columns_are_binary_labels(storage: StorageSettings, load: Load) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (60, 14), dtype=np.uint8)
    arrays = {"train_images": random_pixels(60, 16, 16), "train_labels": labels}
    write_npz(storage.data_dir / "chest.npz", arrays)
    data = load("npz:chest", 16)
    assert data.multi_label
    assert data.num_classes == 14
    assert data.train.labels.shape == (len(data.train), 14)
    assert data.train.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_images": None}, "has no array train_images; it has"),
        ({"train_labels": None}, "has no array train_labels"),
        ({"val_labels": None}, "has no array val_labels"),
        ({"train_images": np.zeros((9, 16, 16), np.float32)}, "of float32; expected"),
        ({"train_images": np.zeros((9, 16, 16, 4), np.uint8)}, "is (9, 16, 16, 4) of uint8"),
        ({"train_images": np.zeros((9, 16), np.uint8)}, "is (9, 16) of uint8; expected"),
        ({"train_labels": np.zeros((9, 1))}, "train_labels is (9, 1) of float64; expected"),
        ({"train_labels": np.zeros((9, 1, 1), np.uint8)}, "train_labels is (9, 1, 1)"),
        ({"train_labels": np.zeros((8, 1), np.uint8)}, "train has 9 images and 8 labels"),
        ({"train_labels": np.full((9, 1), -1)}, "train_labels has a negative label"),
        ({"test_labels": np.full((9, 1), 9, np.uint8)}, "the test labels are 9 to 9; expected 0"),
        ({"train_images": np.array([{}], object)}, "of object; expected"),
        ({"val_images": np.zeros((0, 16, 16, 3), np.uint8)}, "val has 0 images and 9 labels"),
        (
            {"train_images": np.asfortranarray(random_pixels(9, 16, 16, 3))},
            "is in Fortran order; save numpy.ascontiguousarray of it",
        ),
    ],
)
def test_what_is_wrong_with_an_array_is_said(
    changes: dict[str, np.ndarray | None], sentence: str, storage: StorageSettings, load: Load
) -> None:
    arrays: dict[str, np.ndarray | None] = {**medmnist_arrays(16, count=9, classes=3), **changes}
    path = storage.data_dir / "pathmnist.npz"
    write_npz(path, {name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=re.escape(sentence)) as caught:
        load("pathmnist", 16)
    assert "pathmnist" in str(caught.value)
    assert "`pmae data download pathmnist`" in str(caught.value)


def _damaged(data: bytes) -> bytes:
    middle = len(data) // 3
    return data[:middle] + bytes(200) + data[middle + 200 :]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda _: b"no zip", "is not an npz file"),
        (lambda data: data[:-30], "is not an npz file"),
        (_damaged, "cannot be read|is broken|is not an npy array"),
    ],
)
def test_a_broken_file_is_named(damage: object, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    write_npz(path, medmnist_arrays(28, count=40, classes=4))
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=sentence) as caught:
        load_npz("npz:broken", path, resolution=28, memory_bytes=PLENTY)
    assert str(path) in str(caught.value)


def test_a_cut_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "short.npz"
    arrays = medmnist_arrays(8, count=9, classes=3)
    write_npz(path, arrays, compressed=False)
    header = b"(9, 8, 8, 3)"
    data = path.read_bytes()
    assert data.count(header) == 3
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["train_images.npy"] = members["train_images.npy"][:-7]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match="train_images is truncated"):
        load_npz("npz:short", path, resolution=8, memory_bytes=PLENTY)


def test_what_does_not_fit_in_memory_is_refused_unread(
    storage: StorageSettings, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(storage.data_dir / "bloodmnist_64.npz", medmnist_arrays(64, count=24, classes=8))
    needed = 3 * 24 * 3 * 64 * 64
    monkeypatch.setattr(storage, "data_memory_bytes", needed - 1)
    with pytest.raises(DataError, match=f"takes {needed:,} bytes at 64 pixels.*DATA_MEMORY_BYTES"):
        load("bloodmnist", 64)
    # Scaled while it is read, the same file takes a quarter.
    monkeypatch.setattr(storage, "data_memory_bytes", needed // 4)
    write_npz(storage.data_dir / "bloodmnist.npz", medmnist_arrays(64, count=24, classes=8))
    assert load("bloodmnist", 28).image_shape == (3, 28, 28)
    monkeypatch.setattr(storage, "data_memory_bytes", needed)
    assert load("bloodmnist", 64).image_shape == (3, 64, 64)
