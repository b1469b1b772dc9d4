"""Fashion-MNIST from its four idx files (Xiao et al., arXiv 1708.07747).

torchvision's reader is not used: it reads no gzipped file, and took three images of 5 x 5 pixels
with two labels of class 200 for the data set without a word.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import FashionMNIST

from pmae.data.images import ImageData, MemorySplit
from pmae.data.locate import FASHION_MNIST_FILES, idx_file
from pmae.data.splits import hold_out
from pmae.errors import DataError, DatasetMissingError

CLASS_NAMES = tuple(FashionMNIST.classes)
_VAL_FRACTION = 1 / 12
"""5,000 of the 60,000 training images."""
_UNSIGNED_BYTE = 0x08


def load_fashion_mnist(folder: Path, *, val: bool = True) -> ImageData:
    """Read the four files, plain or gzipped.

    Raises:
        DataError: a file is missing or broken; names it.
    """
    arrays = {key: read_idx(_existing(folder, name)) for key, name in FASHION_MNIST_FILES.items()}
    train, held_out = hold_out(_split(folder, arrays, "train"), _VAL_FRACTION, index=0, wanted=val)
    return ImageData("fashion_mnist", train, held_out, _split(folder, arrays, "test"), CLASS_NAMES)


def _existing(folder: Path, name: str) -> Path:
    path = idx_file(folder, name)
    if path is None:
        raise DatasetMissingError(f"{folder / name} is missing (plain or with .gz)")
    return path


def _split(folder: Path, arrays: dict[str, np.ndarray], name: str) -> MemorySplit:
    images, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"]
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{folder}: the {name} images have shape {images.shape} and the labels {labels.shape}; "
            "expected (n, height, width) and (n,)"
        )
    if len(labels) and labels.max() >= len(CLASS_NAMES):
        raise DataError(f"{folder}: a {name} label is {labels.max()}; expected 0 to 9")
    return MemorySplit(torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64)))


def read_idx(path: Path) -> np.ndarray:
    """Read an idx file of unsigned bytes, gzipped if its name ends in ``.gz``.

    The format: two zero bytes, the type, the number of dimensions, each dimension as a big-endian
    32-bit number, then the values, the last dimension fastest.

    Raises:
        DataError: the file has another format, or is truncated.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(data) < 4 or data[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise DataError(f"{path} is not an idx file of unsigned bytes")
    rank = data[3]
    header = 4 + 4 * rank
    if len(data) < header:
        raise DataError(f"{path} is truncated in its header")
    shape = struct.unpack(f">{rank}I", data[4:header])
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(data) != expected:
        raise DataError(f"{path} has {len(data)} bytes; its header says {expected}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()
