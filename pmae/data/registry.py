"""Open the data set of a spec: in memory if it fits, else streamed from image files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from pmae.data.images import ImageData, MemorySplit, Split, check_splits
from pmae.data.locate import require
from pmae.data.readers.cifar10 import load_cifar10
from pmae.data.readers.clevr import load_clevr
from pmae.data.readers.digits import load_digits
from pmae.data.readers.elpv import load_elpv
from pmae.data.readers.fashion_mnist import load_fashion_mnist
from pmae.data.readers.folder import load_folder, load_imagenet
from pmae.data.readers.npz import MEDMNIST_CLASS_NAMES, load_npz
from pmae.data.readers.tiny_imagenet import load_tiny_imagenet
from pmae.data.splits import subset
from pmae.data.streaming import FileSplit
from pmae.data.transforms.resize import resize
from pmae.errors import DataError, DatasetMissingError, DatasetUnreadableError, SpecError
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec
from pmae.spec.catalog import FOLDER_PREFIX, MEDMNIST, NPZ_PREFIX, dataset_facts

_FEW_FILES = 2000
"""Image files that take less time to decode than workers take to start."""
_OF_FILES: dict[str, Callable[..., ImageData]] = {
    "elpv": load_elpv,
    "imagenet": load_imagenet,
    "tiny_imagenet": load_tiny_imagenet,
}
_log = logging.getLogger(__name__)


def open_data(
    spec: DatasetSpec, settings: StorageSettings, *, object_masks: bool = False
) -> ImageData:
    """Open the data set of a resolved spec, at its resolution, without decoding image files.

    Args:
        spec: resolved.
        settings: with the data root.
        object_masks: True = load the objects' masks into batches (CLEVR only).

    Raises:
        DatasetMissingError: it was not found; says how to get it.
        DatasetUnreadableError: this process may not read it, or a part of it; says who may.
        DataError: it cannot be read; names the file.
        SpecError: object masks of a data set that has none.
    """
    if object_masks and not dataset_facts(spec.name).object_masks:
        raise SpecError(
            f"dataset.name: {spec.name} has no object masks; expected clevr",
            field=("dataset", "name"),
        )
    try:
        data = _load(spec, settings, object_masks=object_masks)
        if spec.max_train_images is not None:
            data = replace(data, train=subset(data.train, spec.max_train_images))
        resized = data.map(lambda split: _resized(split, _resolution(spec)))
        return check_splits(resized, val=spec.val == "held_out")
    except (DatasetMissingError, DatasetUnreadableError):
        raise
    except DataError as error:
        source = dataset_facts(spec.name).source
        raise DataError(f"{error}. How to get {spec.name}: {source}") from error


def load_data(
    spec: DatasetSpec, settings: StorageSettings, *, object_masks: bool = False
) -> ImageData:
    """:func:`open_data` for many passes: read the images into memory if they fit.

    Otherwise workers stream them from their files until ``close()``.
    """
    data = open_data(spec, settings, object_masks=object_masks)
    data = data.map(lambda split: _with_workers(split, settings))
    size, available = sum(split.num_bytes for split in data.splits.values()), settings.data_memory
    if size <= available:
        return data.map(lambda split: split.in_memory())
    _log.info(
        "%s needs %d bytes of memory, %d are available: its image files are streamed",
        data.name,
        size,
        available,
    )
    return data


def _load(spec: DatasetSpec, settings: StorageSettings, *, object_masks: bool) -> ImageData:
    name, resolution, val = spec.name, _resolution(spec), spec.val == "held_out"
    if name == "digits":
        return load_digits(val=val)
    path = require(name, settings, resolution)
    if name.startswith(FOLDER_PREFIX):
        return load_folder(name, path, resolution, val=val)
    if name.startswith(NPZ_PREFIX) or name in MEDMNIST:
        return load_npz(
            name,
            path,
            resolution=resolution,
            memory_bytes=settings.data_memory,
            class_names=MEDMNIST_CLASS_NAMES.get(name, ()),
            val=val,
        )
    if name == "clevr":
        return load_clevr(path, resolution, object_masks=object_masks, val=val)
    if name in _OF_FILES:
        return _OF_FILES[name](path, resolution, val=val)
    if name == "cifar10":
        return load_cifar10(path, val=val)
    return load_fashion_mnist(path, val=val)


def _resolution(spec: DatasetSpec) -> int:
    if spec.resolution is None:
        raise ValueError("dataset.resolution is not resolved")
    return spec.resolution


def _resized(split: Split, resolution: int) -> Split:
    if not isinstance(split, MemorySplit):
        return split
    return replace(split, images=resize(split.images, resolution))


def _with_workers(split: Split, settings: StorageSettings) -> Split:
    if not isinstance(split, FileSplit):
        return split
    workers = settings.data_workers
    if workers is None:
        workers = settings.default_data_workers if len(split) > _FEW_FILES else 0
    return FileSplit(split.files, split.labels, workers=workers)
