"""Where a data set's files are on this machine. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pmae.data.catalog import FOLDER_PREFIX, dataset_facts
from pmae.errors import DatasetMissingError
from pmae.settings import StorageSettings

FASHION_MNIST_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""


@dataclass(frozen=True)
class Location:
    """Whether a data set can be read, and where.

    Attributes:
        available: its files are there.
        message: where it was found, or where it was looked for and how to get it.
        path: its folder; None if it is not available or needs none.
    """

    available: bool
    message: str
    path: Path | None = None


def locate(name: str, settings: StorageSettings) -> Location:
    """Look for a data set's files without reading them.

    Raises:
        SpecError: there is no such data set.
    """
    facts = dataset_facts(name)
    if name == "digits":
        return Location(True, facts.source)
    if name.startswith(FOLDER_PREFIX):
        candidates = [settings.data_dir / name.removeprefix(FOLDER_PREFIX)]
        found = [folder for folder in candidates if folder.is_dir()]
    else:
        candidates = fashion_mnist_candidates(settings)
        found = [folder for folder in candidates if has_fashion_mnist(folder)]
    if found:
        return Location(True, f"found in {found[0]}", found[0])
    looked = ", ".join(str(folder) for folder in candidates)
    return Location(False, f"{name} was looked for in {looked}. To get it: {facts.source}")


def require(name: str, settings: StorageSettings) -> Path:
    """The folder of a data set that lies in files.

    Raises:
        DatasetMissingError: it is not where it was looked for.
    """
    location = locate(name, settings)
    if location.path is None:
        raise DatasetMissingError(location.message)
    return location.path


def fashion_mnist_candidates(settings: StorageSettings) -> list[Path]:
    """Folders that may hold Fashion-MNIST's idx files: the setting, torchvision's, Debian's."""
    named = [settings.fashion_mnist_dir] if settings.fashion_mnist_dir else []
    return [*named, settings.data_dir / "FashionMNIST" / "raw", DEBIAN_FASHION_MNIST]


def has_fashion_mnist(folder: Path) -> bool:
    """Whether all four idx files, plain or gzipped, are in ``folder``."""
    return all(idx_file(folder, name) is not None for name in FASHION_MNIST_FILES.values())


def idx_file(folder: Path, name: str) -> Path | None:
    """The file ``name`` or ``name.gz`` of ``folder``, whichever there is."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None
