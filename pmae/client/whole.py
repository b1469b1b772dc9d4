"""Download a whole checkpoint with its basis, as a folder usable on any machine."""

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
"""Called with a file's name, its bytes received so far, and its total bytes."""


class FolderMethods(CheckpointMethods):
    """Methods of :class:`~pmae.client.PmaeClient` for a checkpoint with its basis."""

    def basis(self, checkpoint_id: str) -> CheckpointBasis:
        """Return the basis of a checkpoint, and its files.

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
        """Download a checkpoint's files and its basis, so that ``pmae.load(folder)`` works.

        The manifest is written last: a folder with a manifest is complete. Verified files of an
        earlier attempt are not downloaded again.

        Args:
            checkpoint_id: id of any checkpoint.
            folder: created if missing.
            only: names of the files; default: all. The manifest is always included, and the basis
                if ``config.json`` is.
            bases: parent of the basis's folder, which is named by its digest; default:
                ``folder / "bases"``.
            progress: called as bytes arrive.

        Yields:
            The path of each complete, verified file.

        Raises:
            DownloadError: a download was interrupted (call again to resume), or a file does not
                match the manifest or the basis's digest.
            ApiError: the service refused.
        """
        facts = self.checkpoint(checkpoint_id).files
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(facts if only is None else only):
            if Path(name).name != name:
                raise DownloadError(f"{name!r} is no file name; expected one without a folder")
            target = folder / name
            if name not in facts or not is_file_of(target, facts[name]):
                self.download(checkpoint_id, name, target, progress=_of_file(progress, name))
            yield target
        digest = basis_of(folder / CONFIG_FILE)
        if digest is not None:
            place = (bases or folder / BASES_FOLDER) / digest
            yield from self._download_basis(checkpoint_id, digest, place, progress)
        of_manifest = _of_file(progress, MANIFEST_FILE)
        target = folder / MANIFEST_FILE
        yield self.download(checkpoint_id, MANIFEST_FILE, target, progress=of_manifest)

    def _download_basis(
        self, checkpoint_id: str, digest: str, place: Path, progress: FolderProgress | None
    ) -> Iterator[Path]:
        """Download a basis to ``place``, which appears only when complete and verified."""
        if not _is_basis(place, digest):
            shutil.rmtree(place, ignore_errors=True)
            basis = self.basis(checkpoint_id)
            unfinished = place.with_name(f".{digest}.part")
            unfinished.mkdir(parents=True, exist_ok=True)
            for name in BASIS_FILES:
                if name not in basis.files:
                    raise DownloadError(f"the service has no file {name} of the basis {digest}")
                path = path_of("checkpoints", checkpoint_id, "basis", "files", name)
                target = unfinished / name
                shown = _of_file(progress, name)
                download_file(self._opening(path), basis.files[name], target, shown)
            if not _is_basis(unfinished, digest):
                shutil.rmtree(unfinished)
                raise DownloadError(
                    f"the downloaded basis of {checkpoint_id} does not have the digest {digest}"
                )
            unfinished.rename(place)
        yield from (place / name for name in BASIS_FILES)


def basis_of(config: Path) -> str | None:
    """Return the digest of the basis in a checkpoint's verified ``config.json``; None if none.

    Raises:
        DownloadError: the file is malformed, or its digest is: it becomes part of a path.
    """
    if not config.is_file():
        return None
    try:
        digest = json.loads(config.read_bytes()).get("basis_digest")
    except (ValueError, AttributeError) as error:
        raise DownloadError(f"{config} is no checkpoint's configuration: {error}") from error
    if digest is not None and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise DownloadError(
            f"{config}: basis_digest is {digest!r}; expected 64 hexadecimal digits, or none"
        )
    return digest


def _is_basis(folder: Path, digest: str) -> bool:
    try:
        verify_basis(folder, digest)
    except BasisError:
        return False
    return True


def _of_file(progress: FolderProgress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda there, total: progress(name, there, total)
