"""Figures: lines of the table that ``make bench`` prints, and measurement of time and memory."""

from __future__ import annotations

import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A comparison, with ``ratio`` above 1 if ours is better; or without a peer, a cost."""

    name: str
    unit: str
    ours: float
    peer_name: str | None = None
    peer: float | None = None
    ratio: float | None = None
    goal: float | None = None
    met: bool | None = None
    note: str = ""

    def row(self) -> str:
        """Format as a row of the table ``figure | ours | peer | ratio | goal``."""
        note = f" ({self.note})" if self.note else ""
        line = f"| {self.name} | {self.ours:,.3g} {self.unit} |"
        if self.peer is None or self.ratio is None:
            return f"{line} | {note.strip()} | |"
        goal = "" if self.goal is None else f"{self.goal:g}x, {'met' if self.met else 'not met'} "
        peer = f"{self.peer:,.3g} {self.unit} ({self.peer_name})"
        return f"{line} {peer} | {self.ratio:.2f}{note} | {goal}|"


def median_seconds(runs: int, *works: Callable[[], object]) -> list[float]:
    """Median duration of each work, in turns after one round of warm-up."""
    return _medians(runs, works, time.perf_counter)


def median_cpu_seconds(runs: int, *works: Callable[[], object]) -> list[float]:
    """Median processor time of each work, likewise; waiting for a busy processor does not count."""
    return _medians(runs, works, time.process_time)


def _medians(
    runs: int, works: Sequence[Callable[[], object]], clock: Callable[[], float]
) -> list[float]:
    times: list[list[float]] = [[] for _ in works]
    for turn in range(runs + 1):
        for index, work in enumerate(works):
            began = clock()
            work()
            if turn:
                times[index].append(clock() - began)
    return [statistics.median(found) for found in times]


def peak_bytes() -> int:
    """Peak memory of this process.

    Linux's ``ru_maxrss`` includes the memory of the parent process before ``exec``, so the kernel's
    ``VmHWM`` is used if there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        assert found
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
