"""Token buckets in the memory of this process: so many requests a minute for each caller.

The library `limits` does not serve: it counts windows and has no bucket. After six requests at
once, of six a minute, the next may follow in 10 s here and in 60 s there. And it holds as many
callers as come (25,000 of 25,000 that were tried), where a stranger may come by many addresses.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_SECONDS = 60.0
_MOST_BUCKETS = 10_000
"""More than that, and those of the callers that were not heard of for the longest are dropped."""


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class RateLimit:
    """So many a minute for each caller, all of them at once if it likes.

    Several API processes count each for itself. Used from one event loop only, so without a lock.

    Args:
        per_minute: how many; 0: as many as come.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def seconds_to_wait(self, caller: str) -> float:
        """Count one of a caller's.

        Returns:
            0 if it may go on; else it is not counted, and this is when the next one may.
        """
        if self.per_minute == 0:
            return 0.0
        now = self._clock()
        bucket = self._buckets.setdefault(caller, _Bucket(self.per_minute, now))
        self._buckets.move_to_end(caller)
        if len(self._buckets) > _MOST_BUCKETS:
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
