"""An open event stream: what it follows, how far it is, and what waits to be sent on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sse_starlette import ServerSentEvent

MAX_WAITING = 1_000
"""Messages kept for a reader that is slow; the rest stays in the database until it has read."""
_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
"""JSON leaves these as they are, and many a reader of event streams ends a line there."""


@dataclass(frozen=True)
class Message:
    """An event as it is sent.

    Attributes:
        id: of its row.
        type: what it is about, for example ``state``.
        content: encoded.
    """

    id: int
    type: str
    content: bytes


@dataclass(eq=False, kw_only=True)
class Listener:
    """One open stream: a filter over the events of the service, and a place among them.

    Attributes:
        run_number: only events of this run; None: of all runs.
        run_id: of the same run; an event of its deletion has no other name for it.
        types: only messages of these types; None: of all.
        last_id: every event up to this id was queued, or is none of this stream's.
        known: later events that were there when the stream was opened, and are not sent.
        named: True if the reader has an id to resume after when the connection breaks.
        progress: newest progress that was sent, by run number.
        key_id: of the key with which it was opened; None where keys are off.
        session_id: of the session of that key, if it was opened with one's token.
        queue: encoded messages; None ends the stream.
        ended: nothing more will come.
    """

    run_number: int | None = None
    run_id: str | None = None
    types: frozenset[str] | None = None
    last_id: int = 0
    known: frozenset[int] = frozenset()
    named: bool = True
    progress: dict[int, object] = field(default_factory=dict)
    key_id: str | None = None
    session_id: str | None = None
    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    ended: bool = False

    @property
    def has_room(self) -> bool:
        """True if the reader keeps up."""
        return self.queue.qsize() < MAX_WAITING

    def wants(self, kind: str) -> bool:
        """Return True if messages of this type pass its filter."""
        return self.types is None or kind in self.types

    def put(self, content: bytes) -> None:
        """Queue an encoded message."""
        self.queue.put_nowait(content)

    def end(self) -> None:
        """End the stream after what is queued."""
        if not self.ended:
            self.ended = True
            self.queue.put_nowait(None)

    def cut(self) -> None:
        """End the stream at once: what is queued is not for its reader any more."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.ended = True
        self.queue.put_nowait(None)


def encode(
    kind: str | None = None, data: str | None = None, *, event_id: int | None = None
) -> bytes:
    """Encode a message; ``data`` is JSON on one line.

    An id alone is no message to a reader; it is the place to go on from after a broken connection.
    """
    if data is not None and not data.isascii():
        data = data.translate(_LINE_ENDS)
    name = None if event_id is None else str(event_id)
    return ServerSentEvent(data, event=kind, id=name, sep="\n").encode()
