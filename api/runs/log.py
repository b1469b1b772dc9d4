"""A run's log: the logs of its leases, one after the other, addressed by byte."""

from __future__ import annotations

import codecs
from pathlib import Path

from pmae.runs.layout import RunDir
from pmae.schema import LogChunk

_CONTINUATION = range(0x80, 0xC0)
"""Bytes of UTF-8 that go on with a character."""


def read_log(run_dir: RunDir, *, offset: int, limit: int) -> LogChunk:
    """A piece of the log, cut between characters.

    Args:
        run_dir: need not exist, yet or any more: the log is empty then.
        offset: in bytes from the first lease's start; negative: from the end.
        limit: most bytes of the piece, 4 or more.
    """
    try:
        return _read_log(run_dir, offset, limit)
    except FileNotFoundError:
        # Found, but not there any more: the run is being deleted.
        return LogChunk(text="", offset=0, next_offset=0, size=0)


def _read_log(run_dir: RunDir, offset: int, limit: int) -> LogChunk:
    logs = [lease.log for lease in run_dir.leases() if lease.log.is_file()]
    files = [(log, log.stat().st_size) for log in logs]
    size = sum(length for _, length in files)
    start = max(size + offset, 0) if offset < 0 else min(offset, size)
    data = _read(files, start, limit)
    if offset < 0:
        skipped = _leading_continuation(data)
        data, start = data[skipped:], start + skipped
    text, taken = _decode(data)
    return LogChunk(text=text, offset=start, next_offset=start + taken, size=size)


def _read(files: list[tuple[Path, int]], start: int, limit: int) -> bytes:
    """At most ``limit`` bytes from ``start`` on of the files' concatenation."""
    pieces: list[bytes] = []
    for path, length in files:
        if start >= length:
            start -= length
            continue
        with path.open("rb") as file:
            file.seek(start)
            piece = file.read(min(limit, length - start))
        pieces.append(piece)
        limit -= len(piece)
        start = 0
        if limit == 0:
            break
    return b"".join(pieces)


def _decode(data: bytes) -> tuple[str, int]:
    """The text, and how many bytes of ``data`` it took: a torn last character is left for later."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    torn, _ = decoder.getstate()
    if torn and len(torn) == len(data):
        # Nothing but half a character: what follows never came, or is not UTF-8.
        return data.decode("utf-8", "replace"), len(data)
    return text, len(data) - len(torn)


def _leading_continuation(data: bytes) -> int:
    """How many bytes at the start end a character that began before; at most 3 do."""
    count = next((i for i, byte in enumerate(data[:4]) if byte not in _CONTINUATION), len(data[:4]))
    return count if count <= 3 else 0
