"""Fetching a checkpoint's file: resumed, verified, and never seen half-written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx

from pmae.client.errors import DownloadError, UnexpectedAnswerError
from pmae.runs.events import FileFacts

CHUNK_BYTES = 1 << 20
"""Of a part that is there, read at once."""

OpenStream = Callable[[dict[str, str]], AbstractContextManager[httpx.Response]]
"""Asks for the file with these headers; the answer's status is 200, 206 or 416."""
ProgressCallback = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes of the whole file."""


def part_path(destination: Path) -> Path:
    """Where the bytes of an unfinished download wait to be gone on with."""
    return destination.with_name(destination.name + ".part")


def download_file(
    open_stream: OpenStream,
    facts: FileFacts,
    destination: Path,
    progress: ProgressCallback | None = None,
) -> Path:
    """Fetch a file to ``destination``, which appears only when it is whole and verified.

    A ``.part`` file of an earlier try is gone on with by ``Range`` and ``If-Range``; when it turns
    out to be of another file, the download starts again.

    Raises:
        DownloadError: it broke off (the part is kept: call again to go on), or the bytes are not
            those that the checkpoint's manifest names (the part is removed).
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
            f"what came for {destination.name} has the SHA-256 {digest}, not {facts.sha256}"
        )
    part.replace(destination)
    return destination


def is_file_of(path: Path, facts: FileFacts) -> bool:
    """Whether the file is there, and is that one."""
    if not path.is_file() or path.stat().st_size != facts.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == facts.sha256


def _fetch(
    open_stream: OpenStream, facts: FileFacts, part: Path, progress: ProgressCallback | None
) -> str:
    """Bring ``part`` to its full size; the SHA-256 of what is then in it."""
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
            f"{part.name}: {there} of {facts.size} bytes came; call again to go on from there"
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
    """A partial answer must begin where the part ends."""
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return
    content_range = response.headers.get("content-range", "")
    if not content_range.startswith(f"bytes {there}-"):
        raise UnexpectedAnswerError(
            f"asked for bytes from {there} on, got Content-Range {content_range!r}"
        )


def _counted(response: httpx.Response, facts: FileFacts, there: int, name: str) -> Iterator[bytes]:
    """The body, with a broken connection told as such, and never more than the file has.

    In pieces as they arrive: what was gathered to larger ones would be lost when it breaks off.
    """
    try:
        for chunk in response.iter_bytes():
            there += len(chunk)
            if there > facts.size:
                raise UnexpectedAnswerError(
                    f"{name}: more than the {facts.size} bytes came that the manifest names"
                )
            yield chunk
    except httpx.TransportError as error:
        raise DownloadError(
            f"{name}: broke off after {there} of {facts.size} bytes "
            f"({str(error) or type(error).__name__}); call again to go on from there"
        ) from error
