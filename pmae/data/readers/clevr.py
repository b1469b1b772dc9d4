"""CLEVR from the folders of its zip file (Johnson et al., arXiv 1612.06890).

An image has 24 binary labels, one for each colour and shape: 1 if the scene has such an object. The
public test images have no scenes, so the validation images are the test split, and val is held out
of train. Scenes are oblong with objects at their sides, so images are squashed, not cropped.

Object masks are optional and not part of the zip::

    CLEVR_v1.0/masks/train/CLEVR_train_000000.png     8-bit numbers of the objects, 0 for none
    CLEVR_v1.0/masks/val/CLEVR_val_000000.png
"""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from pmae.data.images import ImageData
from pmae.data.splits import hold_out
from pmae.data.streaming import FileSplit, ImageFiles
from pmae.errors import DataError, DatasetMissingError
from pmae.spec.catalog import dataset_facts

COLORS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
SHAPES = ("cube", "sphere", "cylinder")
CLASS_NAMES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
_LABEL = {name: index for index, name in enumerate(CLASS_NAMES)}
_VAL_FRACTION = 0.05
"""3,500 of the 70,000 training images."""


def load_clevr(folder: Path, resolution: int, *, object_masks: bool, val: bool = True) -> ImageData:
    """List the images, with labels from their scenes.

    Raises:
        DatasetMissingError: ``object_masks`` is True and there are none.
        DataError: the scenes are missing or broken.
    """
    everything = _split(folder, "train", resolution, object_masks=object_masks)
    train, held_out = hold_out(everything, _VAL_FRACTION, index=0, wanted=val)
    test = _split(folder, "val", resolution, object_masks=object_masks)
    return ImageData("clevr", train, held_out, test, CLASS_NAMES)


def _split(folder: Path, name: str, resolution: int, *, object_masks: bool) -> FileSplit:
    images, labels = _read_scenes(folder / "scenes" / f"CLEVR_{name}_scenes.json")
    mask_names = None
    if object_masks:
        masks = folder / "masks" / name
        if not masks.is_dir():
            raise DatasetMissingError(
                f"{masks} is missing: masking by objects needs a PNG for each image there, "
                "named as the image, whose 8-bit values number the objects, 0 for none"
            )
        mask_names = _names(f"masks/{name}", [PurePath(image).stem + ".png" for image in images])
    files = ImageFiles(
        root=folder,
        names=_names(f"images/{name}", images),
        mask_names=mask_names,
        resolution=resolution,
        channels=3,
        fit=dataset_facts("clevr").fit,
    )
    return FileSplit(files, labels)


def _names(folder: str, names: list[str]) -> np.ndarray:
    return np.array([os.fsencode(f"{folder}/{name}") for name in names], dtype=np.bytes_)


def _read_scenes(path: Path) -> tuple[list[str], torch.Tensor]:
    """Read the images' names and their labels, ``(n, 24)`` int64 of 0 and 1."""
    try:
        scenes: list[dict[str, Any]] = json.loads(path.read_bytes())["scenes"]
        images = [PurePath(scene["image_filename"]).name for scene in scenes]
        shown = [
            [_LABEL[f"{thing['color']} {thing['shape']}"] for thing in scene["objects"]]
            for scene in scenes
        ]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} does not hold CLEVR's scenes (image_filename, and objects with a color and a "
            f"shape): {error!r}"
        ) from error
    labels = torch.zeros(len(images), len(CLASS_NAMES), dtype=torch.int64)
    for row, things in enumerate(shown):
        labels[row, things] = 1
    return images, labels
