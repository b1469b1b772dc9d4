"""Read events in a background thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Self

from pmae.client.events import Event
from pmae.errors import ClientError


class EventReader:
    """Daemon thread that reads events until the stream ends; closing the client ends it.

    Args:
        events: returns the iterator to read; called in the thread.
        on_event: called in the thread with each event.
    """

    def __init__(
        self, events: Callable[[], Iterator[Event]], on_event: Callable[[Event], object]
    ) -> None:
        self._events = events
        self._on_event = on_event
        self._error: ClientError | None = None
        self._thread = threading.Thread(target=self._read, name="event-reader", daemon=True)

    def start(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def has_ended(self) -> bool:
        """Return True once there will be no more events.

        Raises:
            ClientError: the error that ended the stream.
        """
        if self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        return True

    def _read(self) -> None:
        try:
            for event in self._events():
                self._on_event(event)
        except ClientError as error:
            self._error = error
