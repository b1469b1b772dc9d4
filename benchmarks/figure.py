"""One line of the table that ``make bench`` prints, and how durations are taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One comparison; ``ratio`` above 1 means ours is ahead."""

    name: str
    unit: str
    ours: float
    peer_name: str
    peer: float
    ratio: float
    goal: float
    met: bool


def median_seconds(runs: int, *works: Callable[[], object]) -> list[float]:
    """Median of each work's duration, the works taking turns after one uncounted round."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(runs + 1):
        for index, work in enumerate(works):
            began = time.perf_counter()
            work()
            if turn:
                times[index].append(time.perf_counter() - began)
    return [statistics.median(found) for found in times]
