"""CLEVR's scenes, images and object masks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pmae.data.readers.clevr import CLASS_NAMES
from pmae.data.registry import load_data
from pmae.errors import DataError, DatasetMissingError, SpecError
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec
from tests.pmae.data.conftest import Load
from tests.pmae.data.formats import random_pixels, write_clevr, write_image

SPEC = DatasetSpec(name="clevr", resolution=32)


@pytest.fixture
def folder(storage: StorageSettings) -> Path:
    return storage.data_dir / "CLEVR_v1.0"


def test_labels_say_which_colours_of_which_shapes_are_there(folder: Path, load: Load) -> None:
    write_clevr(folder, train=40, val=6)
    data = load("clevr", 32)
    assert (len(data.train), len(data.val), len(data.test)) == (38, 2, 6)
    assert data.multi_label
    assert data.num_classes == 24 == len(set(CLASS_NAMES))
    assert data.test.labels.shape == (6, 24)
    assert data.label_text(data.test.labels[0]) == "gray cube, red sphere"
    assert data.label_text(data.test.labels[1]) == "gray cube, yellow cylinder"


def test_objects_at_the_sides_stay_in_the_picture(folder: Path, load: Load) -> None:
    write_clevr(folder, train=40, val=2)
    image = load("clevr", 32).test.take(torch.tensor([0])).images[0]
    assert image.shape == (3, 32, 32)
    # A centred square of the 48 x 32 pixels would have cut both objects off.
    assert image[0, 16, 1] == 120
    assert image[0, 16, 30] == 200
    assert image[0, 16, 16] == 40


@pytest.mark.parametrize("streamed", [False, True])
def test_object_masks_come_with_their_images(
    streamed: bool, folder: Path, storage: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clevr(folder, train=40, val=4, masks=True)
    if streamed:
        monkeypatch.setattr(storage, "data_memory_bytes", 0)
    data = load_data(SPEC, storage, object_masks=True)
    (batch,) = data.test.in_order(10)
    assert batch.object_masks is not None
    assert batch.object_masks.shape == (4, 32, 32)
    assert set(batch.object_masks.unique().tolist()) == {0, 1, 2}
    assert batch.object_masks[0, 16, [1, 16, 30]].tolist() == [1, 0, 2]
    assert load_data(SPEC, storage).test.take(torch.tensor([0])).object_masks is None


def test_palette_masks_are_read_by_their_numbers(folder: Path, storage: StorageSettings) -> None:
    write_clevr(folder, train=40, val=2, masks=True)
    path = folder / "masks" / "val" / "CLEVR_val_000000.png"
    numbers = np.zeros((32, 48), np.uint8)
    numbers[:, 24:] = 9
    image = Image.fromarray(numbers).convert("P")
    image.putpalette([255 - value // 3 for value in range(768)])
    image.save(path)
    data = load_data(SPEC, storage, object_masks=True)
    masks = data.test.take(torch.tensor([0])).object_masks
    assert masks is not None
    assert masks[0, 5, [3, 30]].tolist() == [0, 9]
    write_image(path, random_pixels(32, 48, 3))
    with pytest.raises(DataError, match=r"CLEVR_val_000000.png is no object mask: its mode is RGB"):
        load_data(SPEC, storage, object_masks=True)


def test_missing_masks_are_said_so(folder: Path, storage: StorageSettings) -> None:
    write_clevr(folder, train=40, val=2)
    with pytest.raises(DatasetMissingError, match=re.escape(f"{folder}/masks/train is missing")):
        load_data(SPEC, storage, object_masks=True)
    (folder / "masks" / "train").mkdir(parents=True)
    (folder / "masks" / "val").mkdir(parents=True)
    with pytest.raises(DataError, match=r"masks/train/CLEVR_train_\d+.png is missing"):
        load_data(SPEC, storage, object_masks=True)
    with pytest.raises(SpecError, match="digits has no object masks; expected clevr") as caught:
        load_data(DatasetSpec(name="digits", resolution=8), storage, object_masks=True)
    assert caught.value.field == ("dataset", "name")


@pytest.mark.parametrize(
    "scenes",
    [
        "no json",
        json.dumps([]),
        json.dumps({"scenes": [{"objects": []}]}),
        json.dumps({"scenes": [{"image_filename": "a.png", "objects": [{"color": "red"}]}]}),
        json.dumps(
            {
                "scenes": [
                    {"image_filename": "a.png", "objects": [{"color": "pink", "shape": "cube"}]}
                ]
            }
        ),
    ],
)
def test_broken_scenes_are_named(scenes: str, folder: Path, load: Load) -> None:
    write_clevr(folder, train=40, val=2)
    path = folder / "scenes" / "CLEVR_val_scenes.json"
    path.write_text(scenes)
    with pytest.raises(DataError, match=re.escape(f"{path} does not hold CLEVR's scenes")) as error:
        load("clevr", 32)
    assert "`pmae data download clevr`" in str(error.value)


def test_missing_files_are_named(folder: Path, load: Load) -> None:
    with pytest.raises(DatasetMissingError, match=r"looked for in .*CLEVR_v1.0, .*clevr/CLEVR_v1"):
        load("clevr", 32)
    write_clevr(folder, train=40, val=2)
    (folder / "images" / "val" / "CLEVR_val_000001.png").unlink()
    with pytest.raises(DataError, match=r"images/val/CLEVR_val_000001.png is missing"):
        load("clevr", 32)
    (folder / "scenes" / "CLEVR_train_scenes.json").unlink()
    with pytest.raises(DatasetMissingError, match=r"scenes/CLEVR_train_scenes.json is missing"):
        load("clevr", 32)
