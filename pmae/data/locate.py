"""Find the files of data sets on this machine. Imports no torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from pmae.data.readable import is_absent, shown, why_unreadable
from pmae.errors import DatasetMissingError, DatasetUnreadableError, SpecError
from pmae.settings import StorageSettings
from pmae.spec.catalog import (
    DATASETS,
    FOLDER_PREFIX,
    MEDMNIST,
    MEDMNIST_SIZES,
    NPZ_PREFIX,
    DatasetFacts,
    dataset_facts,
    medmnist_file,
    own_facts,
)

FASHION_MNIST_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Folder of Debian's package dataset-fashion-mnist."""
_CIFAR10_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


@dataclass(frozen=True)
class _Layout:
    """Location and content of a data set.

    Attributes:
        folders: candidates under the data root, in order.
        needed: files and folders that a complete data set has.
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
    "elpv": _Layout(("elpv/elpv_dataset/data",), ("labels.csv", "images")),
}
_KNOWN = frozenset(
    {"FashionMNIST"}
    | {path.split("/")[0] for layout in _LAYOUTS.values() for path in layout.folders}
    | {medmnist_file(name, size) for name in MEDMNIST for size in MEDMNIST_SIZES}
)
"""Entries of the data root that belong to a data set of the catalogue."""


_NAME_RULE = (
    "A name there has letters, digits, '.', '_' and '-', begins with a letter or a digit and has "
    "at most 100 characters: rename it"
)
_NOT_DATA = frozenset({"lost+found"})
"""Entries of the data root to ignore, besides hidden ones: file systems create it."""


@dataclass(frozen=True)
class Location:
    """The place of a data set, and its availability.

    Attributes:
        available: True = its files are there, and this process may read them.
        message: where it was found, or why it cannot be used and what to do.
        path: its folder or file; None if it is not available or needs none.
        unreadable: True = it is there, but this process may not read it.
    """

    available: bool
    message: str
    path: Path | None = None
    unreadable: bool = False


@dataclass(frozen=True)
class Listed:
    """An entry of a list of data sets.

    Attributes:
        facts: its properties; an available data set has a name for a spec.
        location: where it is, or why it cannot be used.
    """

    facts: DatasetFacts
    location: Location


def locate(name: str, settings: StorageSettings, resolution: int | None = None) -> Location:
    """Look for a data set's files, without reading them.

    Args:
        name: as in a spec.
        settings: with the data root.
        resolution: in pixels; chooses the file of a data set that has one for each size; default:
            the data set's.

    Raises:
        SpecError: there is no such data set.
    """
    facts = dataset_facts(name)
    if name == "digits":
        return Location(True, facts.source)
    candidates = _candidates(name, settings, resolution or facts.resolution)
    found = [_look(name, path, facts) for path in candidates if not is_absent(path)]
    available = next((location for location in found if location.available), None)
    if available is not None:
        return available
    if found:
        return found[0]
    looked = ", ".join(shown(path) for path in candidates)
    problem = data_root_problem(settings)
    closing = f". But {problem}" if problem else ""
    return Location(False, f"{name} was looked for in {looked}. To get it: {facts.source}{closing}")


def require(name: str, settings: StorageSettings, resolution: int | None = None) -> Path:
    """Find the folder or file of a data set; arguments as in :func:`locate`.

    Raises:
        DatasetMissingError: it was not found, or is not complete.
        DatasetUnreadableError: this process may not read it.
    """
    location = locate(name, settings, resolution)
    if location.path is None:
        error = DatasetUnreadableError if location.unreadable else DatasetMissingError
        raise error(location.message)
    return location.path


def data_root_problem(settings: StorageSettings) -> str | None:
    """Describe what is wrong with the data root itself; None if it is a readable folder."""
    root = settings.data_dir
    if is_absent(root):
        return f"the data root {shown(root)} is not there (PMAE_DATA_ROOT names it)"
    problem = why_unreadable(root)
    if problem is None and not root.is_dir():
        return f"the data root {shown(root)} is no folder (PMAE_DATA_ROOT names it)"
    return problem


def list_datasets(settings: StorageSettings) -> list[Listed]:
    """List the data sets of the catalogue, then the user's own under the data root.

    An entry that a spec cannot name or this process cannot read is listed with the reason.
    """
    known = [Listed(facts, locate(name, settings)) for name, facts in DATASETS.items()]
    try:
        paths = sorted(settings.data_dir.iterdir())
    except OSError:  # the locations above already name the problem
        return known
    own = (_own(path, settings) for path in paths)
    return [*known, *(listed for listed in own if listed is not None)]


def _own(path: Path, settings: StorageSettings) -> Listed | None:
    """Describe an entry of the data root; None if it is no data set, or one of the catalogue."""
    if path.name in _KNOWN | _NOT_DATA or path.name.startswith("."):
        return None
    is_npz = path.suffix == ".npz"
    closed = why_unreadable(path)
    if closed is None:
        try:
            is_npz = is_npz and path.is_file()
            if not is_npz and not _holds_folders(path):
                return None
        except OSError as error:
            closed = f"{shown(path)} cannot be read: {error.strerror}"
    elif not is_npz and path.is_file():
        return None
    name = NPZ_PREFIX + path.stem if is_npz else FOLDER_PREFIX + path.name
    try:
        facts = dataset_facts(name)
    except SpecError:
        message = f"{shown(path)} cannot be named in a spec. {_NAME_RULE}"
        return Listed(own_facts(shown(name)), Location(False, message))
    if closed is not None:
        return Listed(facts, Location(False, closed, unreadable=True))
    return Listed(facts, locate(name, settings))


def _holds_folders(path: Path) -> bool:
    return path.is_dir() and any(child.is_dir() for child in path.iterdir())


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
    folders = [root / folder for folder in _LAYOUTS[name].folders]
    return [*_installed_elpv(), *folders] if name == "elpv" else folders


def _installed_elpv() -> list[Path]:
    """Find the data of the installed package ``elpv-dataset`` without importing it."""
    package = importlib.util.find_spec("elpv_dataset")
    found = (package.submodule_search_locations if package else None) or ()
    return [Path(folder) / "data" for folder in found]


def _look(name: str, path: Path, facts: DatasetFacts) -> Location:
    """Check that ``path`` holds the complete data set, and that it can be read."""
    closed = why_unreadable(path)
    if closed is not None:
        return Location(False, f"{name} cannot be used: {closed}", unreadable=True)
    parts = _parts(name, path)
    missing = [part for part, at in parts.items() if at is None or is_absent(at)]
    if missing:
        reason = f"{name} in {shown(path)} is not complete: {', '.join(missing)} is missing"
        return Location(False, f"{reason}. To get it: {facts.source}")
    for at in parts.values():
        closed = None if at is None else why_unreadable(at)
        if closed is not None:
            return Location(False, f"{name} cannot be used: {closed}", unreadable=True)
    return Location(True, f"found in {shown(path)}", path)


def _parts(name: str, path: Path) -> dict[str, Path | None]:
    """The paths of the files that a data set needs at ``path``; None: missing."""
    if name == "fashion_mnist":
        return {file: idx_file(path, file) for file in FASHION_MNIST_FILES.values()}
    if name in _LAYOUTS:
        return {needed: path / needed for needed in _LAYOUTS[name].needed}
    return {}


def idx_file(folder: Path, name: str) -> Path | None:
    """Find the file ``name`` or ``name.gz`` in ``folder``."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None
