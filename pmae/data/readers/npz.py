"""Arrays in MedMNIST's npz layout (Yang et al., 2023): MedMNIST+ and ``npz:<name>``."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from pmae.data.images import ImageData, MemorySplit, Split
from pmae.data.splits import carve, nothing
from pmae.data.transforms.resize import resize
from pmae.errors import DataError

MEDMNIST_CLASS_NAMES = {
    "bloodmnist": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocyte",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ),
    "dermamnist": (
        "actinic keratosis or intraepithelial carcinoma",
        "basal cell carcinoma",
        "benign keratosis-like lesion",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevus",
        "vascular lesion",
    ),
    "pathmnist": (
        "adipose",
        "background",
        "debris",
        "lymphocytes",
        "mucus",
        "smooth muscle",
        "normal colon mucosa",
        "cancer-associated stroma",
        "colorectal adenocarcinoma epithelium",
    ),
}
_TEST_FRACTION = 0.2
_VAL_FRACTION = 0.1
_CHUNK_BYTES = 64 << 20
_BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


def load_npz(
    name: str,
    path: Path,
    *,
    resolution: int,
    memory_bytes: int,
    class_names: tuple[str, ...] = (),
    val: bool = True,
) -> ImageData:
    """Read the arrays in chunks, scaled to ``resolution`` as they are unpacked.

    One column of labels holds classes, several columns are binary labels. A missing val or test
    split is held out of train.

    Args:
        name: of the data set.
        path: of the file.
        resolution: edge length in pixels.
        memory_bytes: maximum for the images.
        class_names: default: the numbers of the classes.
        val: False = no validation split: that of the file is ignored, and none is held out.

    Raises:
        DataError: an array is missing, broken, of another shape or type, or too large.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as error:
        raise DataError(f"{path} is not an npz file: {error}") from error
    with archive:
        there = {file.removesuffix(".npy").partition("_")[0] for file in archive.namelist()}
        names = ["train", *(split for split in ("val", "test") if split in there)]
        reader = _Reader(path, archive, resolution)
        reader.check_memory(names, memory_bytes)
        splits: dict[str, Split] = {split: reader.split(split) for split in names}
    if "test" not in splits:
        splits["train"], splits["test"] = carve(splits["train"], _TEST_FRACTION, index=0)
    if not val:
        splits["val"] = nothing(splits["train"])
    elif "val" not in splits:
        splits["train"], splits["val"] = carve(splits["train"], _VAL_FRACTION, index=1)
    classes = class_names or _numbers(list(splits.values()))
    return ImageData(name, splits["train"], splits["val"], splits["test"], classes)


def _numbers(splits: list[Split]) -> tuple[str, ...]:
    if splits[0].multi_label:
        return tuple(map(str, range(splits[0].labels.shape[1])))
    labels = [int(split.labels.max()) for split in splits if len(split)]
    return tuple(map(str, range(1 + max(labels))))


class _Reader:
    """Reader of the arrays of one file."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, resolution: int) -> None:
        self._path = path
        self._archive = archive
        self._resolution = resolution

    def check_memory(self, splits: list[str], memory_bytes: int) -> None:
        """Refuse images that do not fit into memory, by their headers."""
        needed = 0
        for split in splits:
            with self._opened(f"{split}_images") as file:
                shape = self._image_header(file, split)
            channels = shape[3] if len(shape) == 4 else 1
            needed += shape[0] * channels * self._resolution**2
        if needed > memory_bytes:
            raise DataError(
                f"{self._path} takes {needed:,} bytes at {self._resolution} pixels, more than the "
                f"{memory_bytes:,} allowed; lower dataset.resolution, or raise "
                "PMAE_DATA_MEMORY_BYTES"
            )

    def split(self, split: str) -> MemorySplit:
        """Read the images and labels of one split."""
        images, labels = self._images(split), self._labels(split)
        if len(images) != len(labels):
            raise DataError(
                f"{self._path}: {split} has {len(images)} images and {len(labels)} labels"
            )
        return MemorySplit(images, labels)

    def _images(self, split: str) -> Tensor:
        """Read and resize images: ``(n, channels, resolution, resolution)`` uint8."""
        with self._opened(f"{split}_images") as file:
            shape = self._image_header(file, split)
            chunk = max(1, _CHUNK_BYTES // max(1, math.prod(shape[1:])))
            size, channels = self._resolution, shape[3] if len(shape) == 4 else 1
            images = torch.empty(shape[0], channels, size, size, dtype=torch.uint8)
            for start in range(0, shape[0], chunk):
                rows = min(chunk, shape[0] - start)
                data = self._read(file, rows * math.prod(shape[1:]), f"{split}_images")
                pixels = torch.from_numpy(data).reshape(rows, *shape[1:])
                pixels = pixels[:, None] if len(shape) == 3 else pixels.permute(0, 3, 1, 2)
                images[start : start + rows] = resize(pixels, size)
        return images

    def _image_header(self, file: IO[bytes], split: str) -> tuple[int, ...]:
        shape, dtype = self._header(file, f"{split}_images")
        if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
            raise DataError(
                f"{self._path}: {split}_images is {shape} of {dtype}; expected (n, height, width) "
                "or (n, height, width, 3) of uint8"
            )
        return shape

    def _labels(self, split: str) -> Tensor:
        """Read labels: ``(n,)`` or ``(n, k)`` int64."""
        name = f"{split}_labels"
        with self._opened(name) as file:
            shape, dtype = self._header(file, name)
            if dtype.kind not in "iub" or len(shape) not in (1, 2):
                raise DataError(
                    f"{self._path}: {name} is {shape} of {dtype}; expected (n,), (n, 1) or (n, k) "
                    "of integers"
                )
            data = self._read(file, math.prod(shape) * dtype.itemsize, name)
        labels = torch.from_numpy(data.view(dtype).astype(np.int64)).reshape(shape)
        if len(labels) and int(labels.min()) < 0:
            raise DataError(f"{self._path}: {name} has a negative label; expected 0 or more")
        return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels

    def _opened(self, name: str) -> IO[bytes]:
        try:
            return self._archive.open(f"{name}.npy")
        except KeyError as error:
            arrays = ", ".join(file.removesuffix(".npy") for file in self._archive.namelist())
            raise DataError(f"{self._path} has no array {name}; it has {arrays}") from error
        except _BROKEN as error:
            raise DataError(f"{self._path}: {name} cannot be read: {error}") from error

    def _header(self, file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
        try:
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
            shape, fortran_order, dtype = read[npy.read_magic(file)](file)
        except (*_BROKEN, KeyError, SyntaxError, TokenError) as error:
            # numpy parses the header as Python, and a damaged one raises many kinds of errors.
            raise DataError(f"{self._path}: {name} is not an npy array: {error}") from error
        if fortran_order and len(shape) > 1:
            raise DataError(
                f"{self._path}: {name} is in Fortran order; save numpy.ascontiguousarray of it"
            )
        return shape, dtype

    def _read(self, file: IO[bytes], size: int, name: str) -> np.ndarray:
        """Read ``size`` bytes: ``(size,)`` uint8."""
        try:
            data = bytearray(file.read(size))
        except _BROKEN as error:
            raise DataError(f"{self._path}: {name} is broken: {error}") from error
        if len(data) != size:
            raise DataError(f"{self._path}: {name} is truncated")
        return np.frombuffer(data, np.uint8)
