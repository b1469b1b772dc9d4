"""Server-sent events: reading them out of a response's lines."""

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


def parse_stream(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """Messages out of lines without their newline; comments (heartbeats) are passed over.

    A message counts when its empty line has come: a torn last one is left out.

    Raises:
        UnexpectedAnswerError: data that is not a JSON object.
    """
    fields: dict[str, str] = {}
    data: list[str] = []
    for line in lines:
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


def _decode(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UnexpectedAnswerError(f"an event's data is not a JSON object: {text[:100]!r}")
    return content
