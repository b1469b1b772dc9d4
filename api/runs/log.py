"""A run's log: the logs of its leases, concatenated and addressed by byte."""

from __future__ import annotations

import codecs
from pathlib import Path

from pmae.runs.layout import RunDir
from pmae.schema import LogChunk

_CONTINUATION = range(0x80, 0xC0)
"""UTF-8 continuation bytes."""


def read_log(run_dir: RunDir, *, offset: int, limit: int) -> LogChunk:
    """Read a part of the log, cut between characters.

    Args:
        run_dir: folder of the run; the log is empty while it does not exist.
        offset: in bytes from the start of the first log; negative: from the end of the last.
        limit: maximum length in bytes, at least 4.
    """
    try:
        return _read_log(run_dir, offset, limit)
    except FileNotFoundError:
        # The run is being deleted.
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
    """Read at most ``limit`` bytes of the concatenated files, beginning at ``start``."""
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
    """Decode ``data`` up to an incomplete last character; return text and bytes consumed."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    torn, _ = decoder.getstate()
    if torn and len(torn) == len(data):
        # Only an incomplete character: the rest was never written, or it is not UTF-8.
        return data.decode("utf-8", "replace"), len(data)
    return text, len(data) - len(torn)


def _leading_continuation(data: bytes) -> int:
    """Count the bytes at the start that continue an earlier character: 0 to 3."""
    count = next((i for i, byte in enumerate(data[:4]) if byte not in _CONTINUATION), len(data[:4]))
    return count if count <= 3 else 0
