"""Server-sent events: reading them out of a response's bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pmae.client.errors import UnexpectedAnswerError


@dataclass(frozen=True)
class ServerSentEvent:
    """One message of an event stream.

    Attributes:
        type: what it is about, for example ``state``, ``progress`` or ``evaluation``.
        data: its content, decoded from JSON.
        id: its place in the run's history, to go on from after a broken connection; None for
            messages that are not kept (``progress``).
    """

    type: str
    data: dict[str, Any]
    id: str | None = None


def parse_stream(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Messages out of a stream's bytes; comments (heartbeats) are passed over.

    A message counts when its empty line has come: a torn last one is left out.

    Args:
        chunks: cut anywhere.

    Raises:
        UnexpectedAnswerError: data that is not a JSON object.
    """
    fields: dict[str, str] = {}
    data: list[str] = []
    for line in _lines(chunks):
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name:
                fields[name] = value
            continue
        if data:
            yield ServerSentEvent(
                fields.get("event", "message"), _decode("\n".join(data)), fields.get("id")
            )
        fields, data = {}, []


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines without their end: a line feed, a carriage return, or both.

    Nothing else ends one, unlike for ``str.splitlines`` and ``httpx.Response.iter_lines``: text
    may hold U+2028 or U+0085.
    """
    begun: list[bytes] = []
    after_return = False
    for chunk in filter(None, chunks):
        rest = chunk.removeprefix(b"\n") if after_return else chunk
        after_return = chunk.endswith(b"\r")
        for part in rest.splitlines(keepends=True):  # of bytes: at these three ends only
            begun.append(part)
            if part.endswith((b"\n", b"\r")):
                yield b"".join(begun).rstrip(b"\r\n").decode("utf-8", "replace")
                begun = []


def _decode(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UnexpectedAnswerError(f"an event's data is not a JSON object: {text[:100]!r}")
    return content
