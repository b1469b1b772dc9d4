"""Tiny ImageNet's tree."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pmae.errors import DataError, DatasetMissingError
from pmae.settings import StorageSettings
from tests.pmae.data.conftest import Load
from tests.pmae.data.formats import random_pixels, write_image, write_tiny_imagenet


@pytest.fixture
def folder(storage: StorageSettings) -> Path:
    return storage.data_dir / "tiny-imagenet-200"


def test_val_is_the_test_split_and_val_is_cut_from_train(folder: Path, load: Load) -> None:
    write_tiny_imagenet(folder, train=20, val=4)
    data = load("tiny_imagenet", 64)
    assert data.class_names == ("goldfish", "king penguin", "Egyptian cat")
    assert torch.bincount(data.train.labels).tolist() == [19, 19, 19]
    assert torch.bincount(data.val.labels).tolist() == [1, 1, 1]
    # val_annotations.txt names the cats first; their class is the last by WordNet id.
    assert data.test.labels.tolist() == [2] * 4 + [0] * 4 + [1] * 4
    with Image.open(folder / "val" / "images" / "val_4.JPEG") as image:
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(data.test.take(torch.tensor([4])).images[0], expected)
    test = {image.numpy().tobytes() for image in data.test.in_memory().images}
    train = {image.numpy().tobytes() for image in data.train.in_memory().images}
    assert not test & {image.numpy().tobytes() for image in data.val.in_memory().images} & train


def test_grey_images_among_the_others_become_rgb(folder: Path, load: Load) -> None:
    write_tiny_imagenet(folder, train=2, val=1)
    grey = folder / "val" / "images" / "val_0.JPEG"
    write_image(grey, random_pixels(64, 64))
    image = load("tiny_imagenet", 64).test.take(torch.tensor([0])).images[0]
    assert torch.equal(image[0], image[1])


def test_classes_of_one_name_are_told_apart(folder: Path, load: Load) -> None:
    write_tiny_imagenet(folder, train=2, val=1)
    (folder / "words.txt").write_text("n02124075\tcrane, bird\nn01443537\tcrane\n")
    names = load("tiny_imagenet", 64).class_names
    assert names == ("crane (n01443537)", "n02056570", "crane (n02124075)")


def test_what_is_missing_is_named(folder: Path, load: Load) -> None:
    with pytest.raises(DatasetMissingError, match="`pmae data download tiny_imagenet`"):
        load("tiny_imagenet", 64)
    write_tiny_imagenet(folder, train=2, val=1)
    annotations = folder / "val" / "val_annotations.txt"
    good = annotations.read_text()
    for line in ("val_0.JPEG", "val_0.JPEG\tn99999999\t0"):
        annotations.write_text(good + line + "\n")
        sentence = f"{annotations}, line 4: expected an image and a class of wnids.txt"
        with pytest.raises(DataError, match=re.escape(sentence)):
            load("tiny_imagenet", 64)
    annotations.write_text(good + "val_77.JPEG\tn02124075\t0\n")
    with pytest.raises(DataError, match=r"val/images/val_77.JPEG is missing"):
        load("tiny_imagenet", 64)
    annotations.write_text(good)
    with (folder / "wnids.txt").open("a") as file:
        file.write("n00000001\n")
    with pytest.raises(DataError, match=r"train/n00000001/images is missing, but wnids.txt lists"):
        load("tiny_imagenet", 64)
    (folder / "train" / "n00000001" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"train/n00000001/images holds no .JPEG images"):
        load("tiny_imagenet", 64)
    (folder / "wnids.txt").unlink()
    with pytest.raises(DatasetMissingError, match=r"is not complete: wnids.txt is missing"):
        load("tiny_imagenet", 64)
