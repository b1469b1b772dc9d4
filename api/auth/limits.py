"""Rate limits by token buckets in the memory of this process: requests a minute per caller.

The library `limits` does not suffice: it counts in windows and has no bucket. With six a minute,
after six requests at once, the next is accepted after 10 s here and after 60 s there. And it
keeps every caller (25,000 of 25,000 tried), although a client can use many addresses.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_SECONDS = 60.0
_MAX_BUCKETS = 10_000
"""Maximum number of buckets; those unused for the longest are dropped."""


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class RateLimit:
    """Token bucket: ``per_minute`` requests per caller, in a burst or spread out.

    Each API process counts separately. Used from one event loop only, so without a lock.

    Args:
        per_minute: refill rate and capacity; 0: no limit.
        clock: monotonic clock, in seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def seconds_to_wait(self, caller: str) -> float:
        """Count a request of a caller.

        Returns:
            0 if it is accepted; else the seconds until the next one is, and it is not counted.
        """
        if self.per_minute == 0:
            return 0.0
        now = self._clock()
        bucket = self._buckets.setdefault(caller, _Bucket(self.per_minute, now))
        self._buckets.move_to_end(caller)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        bucket.tokens = self._tokens(bucket, now)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) * _SECONDS / self.per_minute
        bucket.tokens -= 1
        return 0.0

    def _tokens(self, bucket: _Bucket, now: float) -> float:
        gained = (now - bucket.filled_at) * self.per_minute / _SECONDS
        return min(float(self.per_minute), bucket.tokens + gained)
