"""Images in one folder a class: ``folder:<name>`` under the data root, and ImageNet.

torchvision's `ImageFolder` lists them. Its loader does not read them: it clips pictures of 16 bits
(of 64 values 2 were left), and shrinks no JPEG while it decodes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torchvision.datasets import ImageFolder
from torchvision.models import ResNet50_Weights

from pmae.data.decode import is_grey
from pmae.data.images import ImageData, Split
from pmae.data.readable import why_unreadable
from pmae.data.splits import carve, hold_out, nothing
from pmae.data.streaming import FileSplit, ImageFiles
from pmae.errors import DataError, DatasetUnreadableError

_SPLITS = ("train", "val", "test")
_TEST_FRACTION = 0.2
_VAL_FRACTION = 0.1
_IMAGENET_VAL_FRACTION = 0.02
"""About 25,000 of the 1,281,167 training images."""

NamedSample = tuple[str, int]
"""A file's path, relative to its data set's folder, and its class."""


def load_folder(name: str, folder: Path, resolution: int, *, val: bool = True) -> ImageData:
    """List the images; each is cropped to a centred square when it is read.

    The splits are the sub-folders ``train``, ``val`` and ``test``; a missing one is held out of
    train, the same fraction of each class. Without a folder ``train`` the classes are the
    sub-folders themselves. The images are grey if all files are, else RGB.

    Raises:
        DataError: no images, or classes that differ between splits.
    """
    present = [split for split in _SPLITS if (folder / split).is_dir()]
    roots = present if "train" in present else [""]
    listings = {root or "train": _listing(folder, root) for root in roots}
    classes = listings["train"][0]
    for split, (found, _) in listings.items():
        if found != classes:
            raise DataError(f"{folder / split} has the classes {found}, train has {classes}")
    samples = {split: listed for split, (_, listed) in listings.items()}
    files = (folder / path for listed in samples.values() for path, _ in listed)
    channels = 1 if all(map(is_grey, files)) else 3
    splits: dict[str, Split] = {
        split: file_split(folder, listed, resolution=resolution, channels=channels)
        for split, listed in samples.items()
    }
    if "test" not in splits:
        splits["train"], splits["test"] = carve(splits["train"], _TEST_FRACTION, index=0)
    if not val:
        splits["val"] = nothing(splits["train"])
    elif "val" not in splits:
        splits["train"], splits["val"] = carve(splits["train"], _VAL_FRACTION, index=1)
    return ImageData(name, splits["train"], splits["val"], splits["test"], tuple(classes))


def load_imagenet(folder: Path, resolution: int, *, val: bool = True) -> ImageData:
    """List ImageNet-1k; its validation images are the test split, val is held out of train.

    Raises:
        DataError: no images, or classes that differ between the two.
    """
    (classes, listed), (others, test_listed) = (
        _listing(folder, "train"), _listing(folder, "val"),
    )  # fmt: skip
    if classes != others:
        odd = sorted(set(classes) ^ set(others))
        raise DataError(
            f"{folder}: train and val differ in {len(odd)} class folders, among them {odd[:5]}; "
            "val needs its images sorted into the folders of their classes"
        )
    everything = file_split(folder, listed, resolution=resolution, channels=3)
    train, held_out = hold_out(everything, _IMAGENET_VAL_FRACTION, index=0, wanted=val)
    test = file_split(folder, test_listed, resolution=resolution, channels=3)
    return ImageData("imagenet", train, held_out, test, _imagenet_names(classes))


def _imagenet_names(wnids: Sequence[str]) -> tuple[str, ...]:
    """English names for the 1,000 classes of ILSVRC 2012, else the folders' names."""
    names: list[str] = ResNet50_Weights.DEFAULT.meta["categories"]
    is_whole = len(wnids) == len(names) and (wnids[0], wnids[-1]) == ("n01440764", "n15075141")
    return tuple(names if is_whole else wnids)


def file_split(
    folder: Path, samples: Sequence[NamedSample], *, resolution: int, channels: int
) -> FileSplit:
    """Make a split of image files with one class each, cropped to centred squares."""
    files = ImageFiles(
        root=folder,
        names=np.array([os.fsencode(path) for path, _ in samples], dtype=np.bytes_),
        resolution=resolution,
        channels=channels,
        fit="crop",
    )
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    return FileSplit(files, labels)


def _listing(folder: Path, root: str) -> tuple[list[str], list[NamedSample]]:
    """List the class folders of ``folder / root``, and the images in them."""
    top = folder / root
    _check_readable(top)
    try:
        listing = ImageFolder(os.fspath(top), loader=cast("Callable[[str], object]", None))
    except FileNotFoundError as error:
        raise DataError(f"{top} holds no class folders with images: {error}") from error
    prefix = len(os.fspath(folder)) + 1
    samples = [(path[prefix:], label) for path, label in listing.samples]
    return list(listing.classes), samples


def _check_readable(top: Path) -> None:
    """Refuse a tree with an unreadable folder, which would be skipped silently.

    Raises:
        DatasetUnreadableError: a folder cannot be listed; says how to fix it.
    """

    def refuse(error: OSError) -> None:
        path = Path(os.fsdecode(error.filename))
        raise DatasetUnreadableError(why_unreadable(path) or str(error)) from error

    for _ in os.walk(top, onerror=refuse, followlinks=True):
        pass
