"""Where a data set's files are on this machine. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pmae.data.catalog import (
    FOLDER_PREFIX,
    MEDMNIST,
    MEDMNIST_SIZES,
    NPZ_PREFIX,
    dataset_facts,
    medmnist_file,
)
from pmae.errors import DatasetMissingError, SpecError
from pmae.settings import StorageSettings

FASHION_MNIST_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""
_CIFAR10_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


@dataclass(frozen=True)
class _Layout:
    """Where a data set is looked for, and what makes it one.

    Attributes:
        folders: under the data root, the first that is there counts.
        needed: files and folders that have to be in it.
    """

    folders: tuple[str, ...]
    needed: tuple[str, ...]


_LAYOUTS = {
    "cifar10": _Layout(("cifar-10-batches-py",), (*_CIFAR10_BATCHES, "test_batch")),
    "tiny_imagenet": _Layout(
        ("tiny-imagenet-200",), ("wnids.txt", "train", "val/images", "val/val_annotations.txt")
    ),
    "clevr": _Layout(
        ("CLEVR_v1.0", "clevr/CLEVR_v1.0"),
        (
            "scenes/CLEVR_train_scenes.json",
            "scenes/CLEVR_val_scenes.json",
            "images/train",
            "images/val",
        ),
    ),
    "imagenet": _Layout(("imagenet",), ("train", "val")),
}
_KNOWN = frozenset(
    {"FashionMNIST"}
    | {path.split("/")[0] for layout in _LAYOUTS.values() for path in layout.folders}
    | {medmnist_file(name, size) for name in MEDMNIST for size in MEDMNIST_SIZES}
)
"""What lies under the data root and belongs to a data set that has a name of its own."""


@dataclass(frozen=True)
class Location:
    """Whether a data set can be read, and where.

    Attributes:
        available: its files are there.
        message: where it was found, or where it was looked for and how to get it.
        path: its folder or file; None if it is not available or needs none.
    """

    available: bool
    message: str
    path: Path | None = None


def locate(name: str, settings: StorageSettings, resolution: int | None = None) -> Location:
    """Look for a data set's files without reading them.

    Args:
        name: as in a spec.
        settings: where the data root is.
        resolution: in pixels, which decides the file where there is one for each size; default:
            the data set's.

    Raises:
        SpecError: there is no such data set.
    """
    facts = dataset_facts(name)
    if name == "digits":
        return Location(True, facts.source)
    candidates = _candidates(name, settings, resolution or facts.resolution)
    present = [path for path in candidates if path.exists()]
    for path in present:
        if not _missing(name, path):
            return Location(True, f"found in {path}", path)
    if present:
        lacking = ", ".join(_missing(name, present[0]))
        reason = f"{name} in {present[0]} is not complete: {lacking} is missing"
    else:
        looked = ", ".join(str(path) for path in candidates)
        reason = f"{name} was looked for in {looked}"
    return Location(False, f"{reason}. To get it: {facts.source}")


def require(name: str, settings: StorageSettings, resolution: int | None = None) -> Path:
    """The folder or file of a data set that lies in files; arguments as of :func:`locate`.

    Raises:
        DatasetMissingError: it is not where it was looked for, or not complete.
    """
    location = locate(name, settings, resolution)
    if location.path is None:
        raise DatasetMissingError(location.message)
    return location.path


def own_datasets(settings: StorageSettings) -> list[str]:
    """``folder:<name>`` and ``npz:<name>`` of what a lab has put under the data root."""
    if not settings.data_dir.is_dir():
        return []
    names = (_own_name(path) for path in sorted(settings.data_dir.iterdir()))
    return [name for name in names if name is not None]


def _own_name(path: Path) -> str | None:
    """The data set that ``path`` is, by a name that a spec can use."""
    if path.name in _KNOWN:
        return None
    if path.suffix == ".npz" and path.is_file():
        name = NPZ_PREFIX + path.stem
    elif path.is_dir() and any(child.is_dir() for child in path.iterdir()):
        name = FOLDER_PREFIX + path.name
    else:
        return None
    try:
        return dataset_facts(name).name
    except SpecError:
        return None


def _candidates(name: str, settings: StorageSettings, resolution: int) -> list[Path]:
    root = settings.data_dir
    if name.startswith(FOLDER_PREFIX):
        return [root / name.removeprefix(FOLDER_PREFIX)]
    if name.startswith(NPZ_PREFIX):
        return [root / f"{name.removeprefix(NPZ_PREFIX)}.npz"]
    if name in MEDMNIST:
        return [root / medmnist_file(name, resolution)]
    if name == "fashion_mnist":
        named = [settings.fashion_mnist_dir] if settings.fashion_mnist_dir else []
        return [*named, root / "FashionMNIST" / "raw", DEBIAN_FASHION_MNIST]
    return [root / folder for folder in _LAYOUTS[name].folders]


def _missing(name: str, path: Path) -> list[str]:
    """What a data set lacks at ``path``."""
    if name == "fashion_mnist":
        files = FASHION_MNIST_FILES.values()
        return [file for file in files if idx_file(path, file) is None]
    if name in _LAYOUTS:
        return [needed for needed in _LAYOUTS[name].needed if not (path / needed).exists()]
    return []


def idx_file(folder: Path, name: str) -> Path | None:
    """The file ``name`` or ``name.gz`` of ``folder``, whichever there is."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None
