"""Waiting for something to become true, with a deadline instead of a fixed sleep."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool], what: str, *, seconds: float = 60, every: float = 0.02
) -> None:
    """Return as soon as ``condition`` holds; fail with ``what`` after so many seconds.

    Args:
        condition: looked at ``every`` so many seconds.
        what: for the message.
        seconds: how long it may take.
        every: more where a look costs much.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(every)
