"""Fetching a checkpoint whole: a folder that is used on any machine."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from pmae.basis.files import BASIS_FILES, verify_basis
from pmae.client.checkpoints import CheckpointMethods
from pmae.client.connection import path_of
from pmae.client.download import download_file, is_file_of
from pmae.client.errors import DownloadError
from pmae.errors import BasisError
from pmae.runs.layout import BASES_FOLDER, CONFIG_FILE, MANIFEST_FILE
from pmae.schema.basis import CheckpointBasis

_DIGEST = re.compile(r"[0-9a-f]{64}")

FolderProgress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes of it that are there, and those of the whole file."""


class FolderMethods(CheckpointMethods):
    """What :class:`~pmae.client.PmaeClient` does with a checkpoint and its basis."""

    def basis(self, checkpoint_id: str) -> CheckpointBasis:
        """The basis that a checkpoint was trained with, and its files.

        Raises:
            ApiError: there is no such checkpoint, or it has no basis (``problem.code`` is
                ``no_basis``).
        """
        path = path_of("checkpoints", checkpoint_id, "basis")
        return self._read(self._send("GET", path), CheckpointBasis)

    def download_folder(
        self,
        checkpoint_id: str,
        folder: Path,
        *,
        only: Collection[str] | None = None,
        bases: Path | None = None,
        progress: FolderProgress | None = None,
    ) -> Iterator[Path]:
        """Fetch a checkpoint's files and its basis, so that ``pmae.load(folder)`` reconstructs.

        The manifest comes last: a folder that has one holds all the rest. What an earlier try that
        broke off has fetched is not fetched again.

        Args:
            checkpoint_id: of any checkpoint.
            folder: made if it is not there.
            only: names of its files; default: all. The manifest always comes along, and the basis
                if ``config.json`` does.
            bases: where the basis goes, in a folder of its digest; default: ``folder / "bases"``.
            progress: told of the bytes as they come.

        Yields:
            The path of each file that is there and verified.

        Raises:
            DownloadError: a file broke off (call again to go on), or is not what the manifest or
                the basis's digest says.
            ApiError: the service refused.
        """
        facts = self.checkpoint(checkpoint_id).files
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(facts if only is None else only):
            if Path(name).name != name:
                raise DownloadError(f"{name!r} is no name of a file in a folder")
            target = folder / name
            if name not in facts or not is_file_of(target, facts[name]):
                self.download(checkpoint_id, name, target, progress=_told(progress, name))
            yield target
        digest = basis_of(folder / CONFIG_FILE)
        if digest is not None:
            place = (bases or folder / BASES_FOLDER) / digest
            yield from self._download_basis(checkpoint_id, digest, place, progress)
        told = _told(progress, MANIFEST_FILE)
        yield self.download(checkpoint_id, MANIFEST_FILE, folder / MANIFEST_FILE, progress=told)

    def _download_basis(
        self, checkpoint_id: str, digest: str, place: Path, progress: FolderProgress | None
    ) -> Iterator[Path]:
        """A folder of that digest appears when it is whole and verified."""
        if not _is_basis(place, digest):
            shutil.rmtree(place, ignore_errors=True)
            basis = self.basis(checkpoint_id)
            unfinished = place.with_name(f".{digest}.part")
            unfinished.mkdir(parents=True, exist_ok=True)
            for name in BASIS_FILES:
                if name not in basis.files:
                    raise DownloadError(f"the basis {digest} has no file {name} at the service")
                path = path_of("checkpoints", checkpoint_id, "basis", "files", name)
                target = unfinished / name
                download_file(self._opening(path), basis.files[name], target, _told(progress, name))
            if not _is_basis(unfinished, digest):
                shutil.rmtree(unfinished)
                raise DownloadError(f"what came is not the basis {digest} of {checkpoint_id}")
            unfinished.rename(place)
        yield from (place / name for name in BASIS_FILES)


def basis_of(config: Path) -> str | None:
    """The digest of the basis that a checkpoint's verified ``config.json`` names.

    Raises:
        DownloadError: it names none that is one; it would be part of a path.
    """
    if not config.is_file():
        return None
    try:
        digest = json.loads(config.read_bytes()).get("basis_digest")
    except (ValueError, AttributeError) as error:
        raise DownloadError(f"{config} is no checkpoint's: {error}") from error
    if digest is not None and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise DownloadError(f"{config}: {digest!r} is no digest of a basis")
    return digest


def _is_basis(folder: Path, digest: str) -> bool:
    try:
        verify_basis(folder, digest)
    except BasisError:
        return False
    return True


def _told(progress: FolderProgress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda there, total: progress(name, there, total)
