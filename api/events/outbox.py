"""What waits to be sent on an open event stream."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

MOST_WAITING = 1_000
"""Messages kept for a listener that reads slowly; the rest stays in the database until it does."""
_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
"""JSON leaves these as they are, and many a reader of event streams ends a line there."""


@dataclass(eq=False, kw_only=True)
class Outbox:
    """Of one open stream.

    Attributes:
        key_id: of the key with which it was opened; None where keys are off.
        session_id: of the session of that key, if it was opened with one's token.
        messages: encoded; None ends the stream.
        ended: nothing more will come.
    """

    key_id: str | None = None
    session_id: str | None = None
    messages: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    ended: bool = False

    @property
    def has_room(self) -> bool:
        """Whether its listener reads as fast as messages come."""
        return self.messages.qsize() < MOST_WAITING

    def put(self, message: bytes) -> None:
        """Send a message."""
        self.messages.put_nowait(message)

    def end(self) -> None:
        """Nothing more will come."""
        if not self.ended:
            self.ended = True
            self.messages.put_nowait(None)

    def cut(self) -> None:
        """End at once: what still waits is not for its listener any more."""
        while not self.messages.empty():
            self.messages.get_nowait()
        self.ended = True
        self.messages.put_nowait(None)


def encode_message(event: str, data: str, *, event_id: int | None = None) -> bytes:
    """One message of an event stream; ``data`` is JSON on one line."""
    if not data.isascii():
        data = data.translate(_LINE_ENDS)
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {event}\ndata: {data}\n\n".encode()
