"""Waiting for a service that is away: how long, what for, and what not."""

from __future__ import annotations

import time
from collections.abc import Callable

from pmae.client.errors import ApiError, may_pass
from pmae.errors import ClientError

FIRST_WAIT_SECONDS = 0.5
MAX_WAIT_SECONDS = 5.0


class Backoff:
    """Waits between the tries of a request: twice as long after each, up to a limit.

    Args:
        on_wait: called with a sentence, once each time the service goes away.
        sleep: waits so many seconds.
        on_answer: called each time the service has answered.
    """

    def __init__(
        self,
        on_wait: Callable[[str], None] | None = None,
        sleep: Callable[[float], object] = time.sleep,
        on_answer: Callable[[], object] | None = None,
    ) -> None:
        self._on_wait = on_wait
        self._sleep = sleep
        self._on_answer = on_answer
        self._next_seconds = FIRST_WAIT_SECONDS
        self._waiting = False

    def seconds_after(self, error: ClientError) -> float:
        """How long to wait before the request that met ``error`` is made again.

        Raises:
            ClientError: ``error`` itself, where no waiting helps: the run is gone, or the key.
        """
        if not may_pass(error):
            raise error
        if not self._waiting and self._on_wait is not None:
            self._on_wait(f"{error}; waiting for it")
        self._waiting = True
        asked = error.retry_after_seconds if isinstance(error, ApiError) else None
        return max(self._following(), asked or 0.0)

    def wait_after(self, error: ClientError) -> None:
        """Wait before the request that met ``error`` is made again.

        Raises:
            ClientError: ``error`` itself, where no waiting helps.
        """
        self._sleep(self.seconds_after(error))

    def wait(self) -> None:
        """Wait before the next try, although nothing went wrong."""
        self._sleep(self._following())

    def _following(self) -> float:
        seconds = self._next_seconds
        self._next_seconds = min(2 * seconds, MAX_WAIT_SECONDS)
        return seconds

    def answered(self) -> None:
        """Begin anew: the service has answered."""
        self._next_seconds = FIRST_WAIT_SECONDS
        self._waiting = False
        if self._on_answer is not None:
            self._on_answer()
