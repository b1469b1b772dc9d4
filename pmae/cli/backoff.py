"""Following a run while the service is away: what is waited for, how long, and what is not."""

from __future__ import annotations

from collections.abc import Callable

from pmae.client.errors import ApiError, may_pass
from pmae.errors import ClientError

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 5.0


class Patience:
    """Waits ever longer for a service that is away, and says once that it does.

    Args:
        tell: says a sentence to whoever watches.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._next_seconds = FIRST_WAIT_SECONDS
        self._waiting = False

    def seconds_after(self, error: ClientError) -> float:
        """How long to wait before the request that met ``error`` is made again.

        Raises:
            ClientError: ``error`` itself, where no waiting helps: the run is gone, or the key.
        """
        if not may_pass(error):
            raise error
        if not self._waiting:
            self._tell(f"{error}; waiting for it")
        self._waiting = True
        seconds = self._next_seconds
        self._next_seconds = min(2 * seconds, LONGEST_WAIT_SECONDS)
        asked = error.retry_after_seconds if isinstance(error, ApiError) else None
        return seconds if asked is None else max(seconds, asked)

    def answered(self) -> None:
        """The service is back: the next time that it is away is told again."""
        self._next_seconds = FIRST_WAIT_SECONDS
        self._waiting = False
