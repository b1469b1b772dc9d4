"""Class-per-folder trees and ImageNet's, with torchvision's ImageFolder and PIL as peers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pmae.data.images import MemorySplit
from pmae.data.registry import open_data
from pmae.data.streaming import FileSplit
from pmae.errors import DataError, DatasetMissingError
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec
from tests.pmae.data.conftest import Load
from tests.pmae.data.formats import random_pixels, write_class_folders, write_image

CLASSES = ("ant", "bee", "wasp")


def test_one_tree_is_split_in_equal_shares(storage: StorageSettings, load: Load) -> None:
    write_class_folders(storage.data_dir / "insects", CLASSES, images_per_class=20)
    data = load("folder:insects", 12)
    assert data.class_names == CLASSES
    assert data.image_shape == (3, 12, 12)
    for split, count in ((data.train, 14), (data.val, 2), (data.test, 4)):
        assert isinstance(split, MemorySplit)
        assert torch.bincount(split.labels).tolist() == [count] * 3
    pixels = [image.numpy().tobytes() for split in _memory(data.splits) for image in split.images]
    assert len(set(pixels)) == 60
    written = np.asarray(Image.open(storage.data_dir / "insects" / "bee" / "0003.png"))
    assert written.transpose(2, 0, 1).tobytes() in pixels


def _memory(splits: object) -> list[MemorySplit]:
    assert isinstance(splits, dict)
    return [split.in_memory() for split in splits.values()]


def test_splits_of_the_lab_are_kept(storage: StorageSettings, load: Load) -> None:
    root = storage.data_dir / "insects"
    for split, count in (("train", 20), ("test", 5)):
        write_class_folders(root / split, CLASSES, images_per_class=count)
    data = load("folder:insects", 12)
    assert (len(data.train), len(data.val), len(data.test)) == (54, 6, 15)
    write_class_folders(root / "val", CLASSES[:2], images_per_class=3)
    with pytest.raises(DataError, match=r"insects/val has the classes \['ant', 'bee'\], train has"):
        load("folder:insects", 12)


def test_oblong_images_lose_their_ends(storage: StorageSettings, load: Load) -> None:
    root = storage.data_dir / "photos"
    for label in ("a", "b"):
        for number in range(5):
            pixels = random_pixels(40, 90, 3, seed=number)
            write_image(root / label / f"{number}.jpg", pixels)
    data = open_data(DatasetSpec(name="folder:photos", resolution=16), storage)
    assert isinstance(data.train, FileSplit)
    path = data.train.files.path(data.train.files.names[0])
    with Image.open(path) as image:
        image.draft("RGB", (32, 32))
        expected = np.asarray(ImageOps.fit(image, (16, 16), Image.Resampling.BICUBIC))
    first = data.train.take(torch.tensor([0])).images[0]
    assert np.array_equal(first.permute(1, 2, 0), expected)


def test_grey_files_give_one_channel_and_a_colour_among_them_three(
    storage: StorageSettings, load: Load
) -> None:
    root = storage.data_dir / "scans"
    write_class_folders(root, CLASSES, images_per_class=5, grey=True)
    deep = (random_pixels(12, 12).astype(np.uint16) << 8) + 77
    Image.fromarray(deep).save(root / "ant" / "9999.png")
    data = load("folder:scans", 12)
    assert data.image_shape == (1, 12, 12)
    everything = torch.cat([split.images for split in _memory(data.splits)])
    # Sixteen bits keep their brightness.
    assert any(np.array_equal(image[0], deep >> 8) for image in everything.numpy())
    write_image(root / "bee" / "colour.png", random_pixels(12, 12, 3))
    assert load("folder:scans", 12).image_shape == (3, 12, 12)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no image", "is not an image"),
        (b"", "is not an image"),
        ("cut", "is broken"),
        ("real numbers", "has F values"),
    ],
)
def test_a_broken_image_is_named(
    content: bytes | str, sentence: str, storage: StorageSettings, load: Load
) -> None:
    root = storage.data_dir / "insects"
    write_class_folders(root, CLASSES, images_per_class=5, size=40)
    path = root / "bee" / "0002.png"
    if content == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif isinstance(content, str):
        Image.fromarray(np.ones((4, 4), np.float32)).save(path.with_suffix(".tiff"))
        path = path.with_suffix(".tiff")
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as caught:
        load("folder:insects", 40)
    assert str(path) in str(caught.value)
    assert "replace it, or remove it" in str(caught.value) or sentence == "has F values"


def test_missing_and_empty_folders_are_said_so(storage: StorageSettings, load: Load) -> None:
    with pytest.raises(DatasetMissingError, match=r"looked for in .*/insects. To get it"):
        load("folder:insects", 12)
    root = storage.data_dir / "insects"
    root.mkdir(parents=True)
    with pytest.raises(DataError, match=re.escape(f"{root} holds no class folders with images")):
        load("folder:insects", 12)
    (root / "ant").mkdir()
    with pytest.raises(DataError, match="holds no class folders with images"):
        load("folder:insects", 12)


def test_fewer_training_images_are_a_subset(storage: StorageSettings, load: Load) -> None:
    write_class_folders(storage.data_dir / "insects", CLASSES, images_per_class=20)
    whole, part = load("folder:insects", 12), load("folder:insects", 12, max_train_images=9)
    assert torch.bincount(part.train.labels).tolist() == [3, 3, 3]
    images = {image.numpy().tobytes() for image in whole.train.in_memory().images}
    assert {image.numpy().tobytes() for image in part.train.in_memory().images} < images
    assert part.digest() != whole.digest()


def test_imagenet(storage: StorageSettings, load: Load) -> None:
    root, wnids = storage.data_dir / "imagenet", ("n01440764", "n01443537")
    with pytest.raises(DatasetMissingError, match=r"image-net.org gives it to those who register"):
        load("imagenet", 32)
    write_class_folders(root / "train", wnids, images_per_class=50, suffix=".JPEG")
    with pytest.raises(DatasetMissingError, match="is not complete: val is missing"):
        load("imagenet", 32)
    write_class_folders(root / "val", wnids, images_per_class=4, suffix=".JPEG")
    data = load("imagenet", 32)
    assert (len(data.train), len(data.val), len(data.test)) == (98, 2, 8)
    assert data.class_names == wnids
    assert data.image_shape == (3, 32, 32)
    write_class_folders(root / "val", ("images",), images_per_class=1, suffix=".JPEG")
    with pytest.raises(DataError, match="train and val differ in 1 class folders, among them"):
        load("imagenet", 32)


def test_imagenets_thousand_folders_have_english_names(
    storage: StorageSettings, tmp_path: Path
) -> None:
    wnids = ["n01440764", *(f"n0{number:07d}" for number in range(1500000, 1500998)), "n15075141"]
    root = storage.data_dir / "imagenet"
    source = tmp_path / "one.JPEG"
    write_image(source, random_pixels(8, 8, 3))
    for split, count in (("train", 2), ("val", 1)):
        for wnid in wnids:
            (root / split / wnid).mkdir(parents=True)
            for number in range(count):
                (root / split / wnid / f"{number}.JPEG").hardlink_to(source)
    data = open_data(DatasetSpec(name="imagenet", resolution=16), storage)
    assert data.num_classes == 1000
    assert (data.class_names[0], data.class_names[-1]) == ("tench", "toilet tissue")
