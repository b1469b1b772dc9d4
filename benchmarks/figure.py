"""One line of the table that ``make bench`` prints, and how durations are taken."""

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
    """A comparison, ``ratio`` above 1 where ours is ahead; without a peer, what something costs."""

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
        """A row of the table ``figure | ours | peer | ratio | goal``."""
        note = f" ({self.note})" if self.note else ""
        line = f"| {self.name} | {self.ours:,.3g} {self.unit} |"
        if self.peer is None or self.ratio is None:
            return f"{line} | {note.strip()} | |"
        goal = "" if self.goal is None else f"{self.goal:g}x, {'met' if self.met else 'not met'} "
        peer = f"{self.peer:,.3g} {self.unit} ({self.peer_name})"
        return f"{line} {peer} | {self.ratio:.2f}{note} | {goal}|"


def median_seconds(runs: int, *works: Callable[[], object]) -> list[float]:
    """Median of each work's duration, the works taking turns after one uncounted round."""
    return _medians(runs, works, time.perf_counter)


def median_cpu_seconds(runs: int, *works: Callable[[], object]) -> list[float]:
    """The same of the processor's time: waiting for a processor that others use does not count."""
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
    """The most memory that this process has held.

    Linux's ``ru_maxrss`` counts what the process that started this one held before, so the figure
    is the kernel's own for this program where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        assert found
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
