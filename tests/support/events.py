"""Event streams as they are sent, without the client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import EventSource


@dataclass(frozen=True)
class SentEvent:
    """A message; ``id`` is None where it has none of its own."""

    type: str
    data: dict[str, Any]
    id: str | None


def sent_events(response: httpx.Response) -> Iterator[SentEvent]:
    """The messages of a stream; what a browser would not hear of is left out."""
    for found in EventSource(response).iter_sse():
        if found.data:
            own = None if found.event == "progress" else found.id
            yield SentEvent(found.event, json.loads(found.data), own)
