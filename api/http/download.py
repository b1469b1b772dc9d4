"""Send a file by RFC 9110: strong ETag, conditional requests, one byte range.

The file is opened before the response begins and sent from that descriptor, so that a file that is
replaced or removed meanwhile still arrives complete.

Starlette's `FileResponse` does not suffice: it opens the file after it has sent status 200 (if it
was removed in between, the response is truncated instead of a 404), responds with 400 in plain text
to ranges that RFC 9110 lets a server ignore, and does not support `If-None-Match`.
"""

from __future__ import annotations

import http
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from fastapi import Response
from starlette.datastructures import Headers
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.http.errors import DamagedError, RangeError
from pmae.runs.events import FileFacts

CHUNK_BYTES = 262_144
_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE)
_ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')
_MEDIA_TYPES = {".json": "application/json", ".jsonl": "application/jsonl"}


@dataclass(frozen=True)
class ByteRange:
    """Bytes from ``start`` up to, but not including, ``stop``."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.stop - self.start


class FileDownload(StreamingResponse):
    """Sends a range of an open file, and always closes it."""

    def __init__(self, file: BinaryIO, part: ByteRange, status: int, headers: Headers) -> None:
        super().__init__(content=(), status_code=status, headers=headers)
        self._file = file
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the range; only the headers for HEAD."""
        with self._file:
            if scope["method"] != "HEAD":
                self.body_iterator = self._chunks()
            await super().__call__(scope, receive, send)

    async def _chunks(self) -> AsyncIterator[bytes]:
        position, stop = self._part.start, self._part.stop
        while position < stop:
            length = min(CHUNK_BYTES, stop - position)
            chunk = await anyio.to_thread.run_sync(os.pread, self._file.fileno(), length, position)
            if not chunk:
                raise DamagedError(f"the file ended at byte {position} instead of {stop}")
            position += len(chunk)
            yield chunk


def respond_with_file(
    path: Path, facts: FileFacts, download_name: str, request: Headers
) -> Response:
    """Build the response to a GET or HEAD of a file.

    Args:
        path: the file.
        facts: its digest, used as the ETag, and its size in bytes.
        download_name: file name for browsers; ASCII without quotes.
        request: headers of the request.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: its size differs from ``facts``.
        RangeError: the range is outside of the file.
    """
    etag = f'"{facts.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=0, must-revalidate",
    }
    if _none_match(request.get("if-none-match"), etag):
        return Response(status_code=http.HTTPStatus.NOT_MODIFIED, headers=headers)
    part, status = ByteRange(0, facts.size), http.HTTPStatus.OK
    if request.get("if-range", etag) == etag:
        wanted = parse_range(request.get("range"), facts.size)
        if wanted is not None:
            part, status = wanted, http.HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{facts.size}"
    headers |= {
        "Content-Length": str(part.length),
        "Content-Type": _MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
        "Content-Disposition": f'attachment; filename="{download_name}"',
    }
    file = path.open("rb")
    size = os.fstat(file.fileno()).st_size
    if size != facts.size:
        file.close()
        raise DamagedError(f"{path.name} has {size} bytes; expected {facts.size}, as recorded")
    return FileDownload(file, part, status, Headers(headers))


def parse_range(value: str | None, size: int) -> ByteRange | None:
    """Parse a ``Range`` header.

    Returns:
        The range; None to send the whole file: without a header, or with one that RFC 9110 lets a
        server ignore (another unit, several ranges, invalid syntax).

    Raises:
        RangeError: it begins after the end of the file.
    """
    match = _ONE_RANGE.fullmatch(value) if value is not None else None
    if match is None:
        return None
    first, last = match.groups()
    if first:
        start = int(first)
        stop = min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    elif last:
        start, stop = max(size - int(last), 0), size
    else:
        return None
    if start >= stop:
        raise RangeError(
            f"{value} is outside of the file, which has {size} bytes",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return ByteRange(start, stop)


def _none_match(value: str | None, etag: str) -> bool:
    """Return True if an ``If-None-Match`` header lists the ETag (weak comparison, as for GET)."""
    if value is None:
        return False
    if value.strip() == "*":
        return True
    return any(tag.removeprefix("W/") == etag for tag in _ENTITY_TAG.findall(value))
