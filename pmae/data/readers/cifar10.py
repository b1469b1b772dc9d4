"""CIFAR-10 from its pickled batches (Krizhevsky, 2009), as torchvision lays them out.

Checksums are torchvision's, its reader is not used: of a file that is missing or changed it says
only "Dataset not found or corrupted. You can use download=True to download it", and names none.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

from pmae.data.images import ImageData, MemorySplit
from pmae.data.splits import hold_out
from pmae.errors import DataError

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
TRAIN_MD5: dict[str, str] = dict(CIFAR10.train_list)
TEST_MD5: dict[str, str] = dict(CIFAR10.test_list)
_VAL_FRACTION = 0.1
"""5,000 of the 50,000 training images."""
_SHAPE = (3, 32, 32)


def load_cifar10(
    folder: Path,
    train_md5: Mapping[str, str] = TRAIN_MD5,
    test_md5: Mapping[str, str] = TEST_MD5,
    *,
    val: bool = True,
) -> ImageData:
    """Read the batches; the official test batch is the test split.

    Args:
        folder: ``cifar-10-batches-py``.
        train_md5: file names and checksums of the training batches, in their order.
        test_md5: the same for the test batch.
        val: False = no validation split, and its images stay in the train split.

    Raises:
        DataError: a file is missing, changed or broken; names it.
    """
    everything, test = _read(folder, train_md5), _read(folder, test_md5)
    train, held_out = hold_out(everything, _VAL_FRACTION, index=0, wanted=val)
    return ImageData("cifar10", train, held_out, test, CLASS_NAMES)


def _read(folder: Path, checksums: Mapping[str, str]) -> MemorySplit:
    batches = [_read_batch(folder / name, md5) for name, md5 in checksums.items()]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    return MemorySplit(torch.from_numpy(images), torch.from_numpy(labels))


def _read_batch(path: Path, md5: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a batch: images ``(n, 3, 32, 32)`` uint8 and classes ``(n,)`` int64."""
    try:
        found = calculate_md5(path)
        if found != md5:
            # Unpickling can run arbitrary code, so only the known file is read.
            raise DataError(f"{path} is not CIFAR-10's file: its MD5 is {found}, expected {md5}")
        with path.open("rb") as file:
            batch = pickle.load(file, encoding="latin1")  # noqa: S301 - the file is a known one
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    try:
        pixels, labels = np.asarray(batch["data"]), np.asarray(batch["labels"], np.int64)
        return pixels.astype(np.uint8, casting="safe").reshape(len(labels), *_SHAPE), labels
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} does not hold data (n, 3072) of uint8 and n labels: {error!r}"
        ) from error
