"""Backoff between attempts to reach a service that is away."""

from __future__ import annotations

import time
from collections.abc import Callable

from pmae.client.errors import ApiError, may_pass
from pmae.errors import ClientError

FIRST_WAIT_SECONDS = 0.5
MAX_WAIT_SECONDS = 5.0


class Backoff:
    """Exponential backoff: the wait doubles from 0.5 to at most 5 seconds.

    Args:
        on_wait: called with a message, once each time the service goes away.
        sleep: sleeps for the given number of seconds.
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
        """Return the seconds to wait before retrying the request that raised ``error``.

        Raises:
            ClientError: ``error`` itself, if a retry cannot help: no such run, an invalid key.
        """
        if not may_pass(error):
            raise error
        if not self._waiting and self._on_wait is not None:
            self._on_wait(f"{error}; waiting for it")
        self._waiting = True
        asked = error.retry_after_seconds if isinstance(error, ApiError) else None
        return max(self._following(), asked or 0.0)

    def wait_after(self, error: ClientError) -> None:
        """Sleep before a retry of the request that raised ``error``.

        Raises:
            ClientError: ``error`` itself, if a retry cannot help.
        """
        self._sleep(self.seconds_after(error))

    def wait(self) -> None:
        """Sleep before the next request, although the last one did not fail."""
        self._sleep(self._following())

    def _following(self) -> float:
        seconds = self._next_seconds
        self._next_seconds = min(2 * seconds, MAX_WAIT_SECONDS)
        return seconds

    def answered(self) -> None:
        """Reset the backoff, since the service has answered."""
        self._next_seconds = FIRST_WAIT_SECONDS
        self._waiting = False
        if self._on_answer is not None:
            self._on_answer()
