"""Download data sets into the data root, by torchvision's downloader.

Files are fetched and unpacked under a temporary name beside their destination and renamed when
complete, so that an interrupted download is never taken for a data set.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets import CIFAR10, FashionMNIST
from torchvision.datasets.utils import download_url, extract_archive

from pmae.data.locate import locate
from pmae.data.readable import is_absent
from pmae.errors import DataError, DatasetUnreadableError, SpecError
from pmae.settings import StorageSettings
from pmae.spec.catalog import MEDMNIST, dataset_facts, medmnist_file, medmnist_size

_MEDMNIST_URL = "https://zenodo.org/records/10519652/files/"
_MEDMNIST_MD5 = {
    "bloodmnist": {
        28: "7053d0359d879ad8a5505303e11de1dc",
        64: "2b94928a2ae4916078ca51e05b6b800b",
        128: "adace1e0ed228fccda1f39692059dd4c",
        224: "b718ff6835fcbdb22ba9eacccd7b2601",
    },
    "dermamnist": {
        28: "0744692d530f8e62ec473284d019b0c7",
        64: "b70a2f5635c6199aeaa28c31d7202e1f",
        128: "2defd784463fa5243564e855ed717de1",
        224: "8974907d8e169bef5f5b96bc506ae45d",
    },
    "pathmnist": {
        28: "a8b06965200029087d5bd730944a56c1",
        64: "55aa9c1e0525abe5a6b9d8343a507616",
        128: "ac42d08fb904d92c244187169d1fd1d9",
        224: "2c51a510bcdc9cf8ddb2af93af1eadec",
    },
}


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        url: of the file.
        md5: its checksum, hexadecimal.
        name: of the local copy.
    """

    url: str
    md5: str
    name: str


@dataclass(frozen=True)
class Download:
    """The files of a data set.

    Attributes:
        files: to fetch.
        folder: their destination under the data root.
        unpacked: folder in the single file, an archive to unpack; None: files are not unpacked.
    """

    files: tuple[RemoteFile, ...]
    folder: str = ""
    unpacked: str | None = None


def _archive(url: str, md5: str, unpacked: str) -> Download:
    return Download((RemoteFile(url, md5, url.rpartition("/")[2]),), unpacked=unpacked)


def _fashion_mnist() -> Download:
    mirror: str = FashionMNIST.mirrors[0]
    files = (RemoteFile(mirror + name, md5, name) for name, md5 in FashionMNIST.resources)
    return Download(tuple(files), folder="FashionMNIST/raw")


def _medmnist(name: str, resolution: int) -> Download:
    file, md5 = medmnist_file(name, resolution), _MEDMNIST_MD5[name][medmnist_size(resolution)]
    return Download((RemoteFile(f"{_MEDMNIST_URL}{file}?download=1", md5, file),))


_SOURCES: dict[str, Callable[[], Download]] = {
    "fashion_mnist": _fashion_mnist,
    "cifar10": lambda: _archive(CIFAR10.url, CIFAR10.tgz_md5, "cifar-10-batches-py"),
    "tiny_imagenet": lambda: _archive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "90528d7ca1a48142e341f4ef8d21d0de",
        "tiny-imagenet-200",
    ),
    "clevr": lambda: _archive(
        "https://dl.fbaipublicfiles.com/clevr/CLEVR_v1.0.zip",
        "b11922020e72d0cd9154779b2d3d07d2",
        "CLEVR_v1.0",
    ),
}


def source(name: str, resolution: int | None = None) -> Download:
    """Look up the files of a data set and their addresses.

    Raises:
        SpecError: no such data set, or one that cannot be downloaded; says how to get it.
    """
    facts = dataset_facts(name)
    if name in MEDMNIST:
        return _medmnist(name, resolution or facts.resolution)
    if name not in _SOURCES:
        raise SpecError(
            f"{name} cannot be downloaded: {facts.source}. "
            f"Expected one of {', '.join((*_SOURCES, *MEDMNIST))}"
        )
    return _SOURCES[name]()


def download(
    name: str,
    settings: StorageSettings,
    resolution: int | None = None,
    find: Callable[[str, int | None], Download] = source,
) -> str:
    """Download a data set unless it is there, with progress on standard error.

    Args:
        name: as in a spec.
        settings: with the data root.
        resolution: in pixels; chooses the file of a data set that has one for each size.
        find: looks up the files to fetch.

    Returns:
        A sentence that says where it is.

    Raises:
        SpecError: no such data set, or one that cannot be downloaded.
        DatasetUnreadableError: it is there, but this process may not read it.
        DataError: it could not be fetched or has another checksum, or the data root cannot be
            written; no partial files are left.
    """
    location = locate(name, settings, resolution)
    if location.available:
        return f"{name}: {location.message}"
    if location.unreadable:
        raise DatasetUnreadableError(location.message)
    wanted = find(name, resolution)
    root = settings.data_dir
    if wanted.unpacked and not is_absent(root / wanted.unpacked):
        raise DataError(f"{location.message}. Remove {root / wanted.unpacked} first")
    with _scratch(name, root) as temporary:
        for file in wanted.files:
            _fetch(file, Path(temporary))
        try:
            _publish(wanted, Path(temporary), root)
        except OSError as error:
            raise DataError(f"{name} could not be put into {root}: {error}") from error
    return f"{name}: {locate(name, settings, resolution).message}"


def _scratch(name: str, root: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder in the data root."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=f".{name}.", dir=root)
    except OSError as error:
        raise DataError(
            f"the data root {root} cannot be written by user {os.geteuid()}: {error.strerror}. "
            "PMAE_DATA_ROOT names another one; with docker compose, the service `data` has it "
            'writable: docker compose run --rm --user "$(id -u):$(id -g)" data download '
            f"{name}"
        ) from error


def _fetch(file: RemoteFile, folder: Path) -> None:
    try:
        download_url(file.url, folder, file.name, file.md5)
    except (OSError, HTTPException, RuntimeError) as error:
        # torchvision raises RuntimeError for a wrong checksum; URLError is an OSError.
        reason = (
            f"its MD5 is not {file.md5}: it is truncated, or another file"
            if isinstance(error, RuntimeError)
            else str(error)
        )
        raise DataError(f"{file.url} could not be fetched: {reason}") from error


def _publish(wanted: Download, temporary: Path, root: Path) -> None:
    if wanted.unpacked is None:
        destination = root / wanted.folder
        destination.mkdir(parents=True, exist_ok=True)
        for file in wanted.files:
            (temporary / file.name).replace(destination / file.name)
        return
    archive, unpacking = temporary / wanted.files[0].name, temporary / "unpacked"
    extract_archive(archive, unpacking)
    folder = unpacking / wanted.unpacked
    if not folder.is_dir():
        raise DataError(f"{wanted.files[0].url} does not hold the folder {wanted.unpacked}")
    folder.rename(root / wanted.unpacked)
