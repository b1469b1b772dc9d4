"""Download a checkpoint's file: resumable, verified, and renamed only when complete."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx

from pmae.client.errors import DownloadError, UnexpectedAnswerError
from pmae.runs.events import FileFacts

CHUNK_BYTES = 1 << 20
"""Bytes read at once to hash a partial file."""

OpenStream = Callable[[dict[str, str]], AbstractContextManager[httpx.Response]]
"""Requests the file with the given headers; the answer's status is 200, 206 or 416."""
ProgressCallback = Callable[[int, int], None]
"""Called with the bytes received so far, and the bytes of the whole file."""


def part_path(destination: Path) -> Path:
    """Return the path of the partial file, from which a download is resumed."""
    return destination.with_name(destination.name + ".part")


def download_file(
    open_stream: OpenStream,
    facts: FileFacts,
    destination: Path,
    progress: ProgressCallback | None = None,
) -> Path:
    """Download a file to ``destination``, which appears only when complete and verified.

    A ``.part`` file of an earlier attempt is resumed with ``Range`` and ``If-Range``; if it turns
    out to be of another file, the download starts again.

    Raises:
        DownloadError: the connection broke (the part is kept; call again to resume), or the digest
            is not that of the checkpoint's manifest (the part is removed).
        ApiError: the service refused.
    """
    part = part_path(destination)
    resumed = part.exists() and part.stat().st_size > 0
    digest = _fetch(open_stream, facts, part, progress)
    if digest != facts.sha256 and resumed:
        part.unlink()
        digest = _fetch(open_stream, facts, part, progress)
    if digest != facts.sha256:
        part.unlink()
        raise DownloadError(
            f"{destination.name}: the download has the SHA-256 {digest}; expected {facts.sha256}"
        )
    part.replace(destination)
    return destination


def is_file_of(path: Path, facts: FileFacts) -> bool:
    """Return True if the file exists with the size and SHA-256 of ``facts``."""
    if not path.is_file() or path.stat().st_size != facts.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == facts.sha256


def _fetch(
    open_stream: OpenStream, facts: FileFacts, part: Path, progress: ProgressCallback | None
) -> str:
    """Download the rest of ``part``; return the SHA-256 of the complete file."""
    digest = hashlib.sha256()
    there = 0
    if part.exists():
        if part.stat().st_size > facts.size:
            part.unlink()
        else:
            there = _hash_file(part, digest.update)
    if there < facts.size or facts.size == 0:
        headers = {"Range": f"bytes={there}-", "If-Range": f'"{facts.sha256}"'} if there else {}
        with open_stream(headers) as response:
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                digest, there = hashlib.sha256(), 0
            _check_start(response, there)
            chunks = _counted(response, facts, there, part.name)
            with part.open("r+b" if there else "wb") as file:
                file.seek(there)
                for chunk in chunks:
                    file.write(chunk)
                    digest.update(chunk)
                    there += len(chunk)
                    if progress:
                        progress(there, facts.size)
    if there != facts.size:
        raise DownloadError(
            f"{part.name}: received {there} of {facts.size} bytes; call again to go on from there"
        )
    return digest.hexdigest()


def _hash_file(path: Path, update: Callable[[bytes], object]) -> int:
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            update(chunk)
            size += len(chunk)
    return size


def _check_start(response: httpx.Response, there: int) -> None:
    """Check that a partial answer begins at byte ``there``, where the partial file ends."""
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return
    content_range = response.headers.get("content-range", "")
    if not content_range.startswith(f"bytes {there}-"):
        raise UnexpectedAnswerError(
            f"expected bytes from {there} on, got Content-Range {content_range!r}"
        )


def _counted(response: httpx.Response, facts: FileFacts, there: int, name: str) -> Iterator[bytes]:
    """Yield the body in chunks as they arrive, up to the size in the manifest.

    Chunks are not gathered into larger ones: a broken connection would lose them.

    Raises:
        DownloadError: the connection broke.
        UnexpectedAnswerError: the body is larger than the file.
    """
    try:
        for chunk in response.iter_bytes():
            there += len(chunk)
            if there > facts.size:
                raise UnexpectedAnswerError(
                    f"{name}: received more than the {facts.size} bytes of the manifest"
                )
            yield chunk
    except httpx.TransportError as error:
        raise DownloadError(
            f"{name}: broke off after {there} of {facts.size} bytes "
            f"({str(error) or type(error).__name__}); call again to go on from there"
        ) from error
