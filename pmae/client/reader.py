"""Reading events beside other work, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Self

from pmae.client.events import Event
from pmae.errors import ClientError


class EventReader:
    """A thread that reads events until they end.

    Events of a client end when it is closed; a process that ends does not wait for the thread.

    Args:
        events: makes the iterator to read; called in the thread.
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
        """Begin to read."""
        self._thread.start()
        return self

    def has_ended(self) -> bool:
        """Whether there will be no more events.

        Raises:
            ClientError: what ended them.
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
