"""One process of the embedded service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pmae.up import guard

LONGEST_BACK_OFF_SECONDS = 30.0
STABLE_SECONDS = 60.0
"""A service that ran for this long has recovered: its next end is the first again."""
TAIL_BYTES = 16_384


@dataclass
class Service:
    """A service, what starts it, and how it is doing.

    Attributes:
        name: for people, and of its log file.
        command: program and arguments.
        log_path: where its standard output and error are appended.
        stop_seconds: from SIGTERM until it is killed.
        is_ready: whether it does its work; asked after it was started.
    """

    name: str
    command: list[str]
    log_path: Path
    stop_seconds: float
    is_ready: Callable[[], bool]
    _guard: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _started: float = field(default=0.0, repr=False)
    _ends: int = field(default=0, repr=False)
    _due: float | None = field(default=None, repr=False)

    def start(self, environment: Mapping[str, str], working_dir: Path) -> None:
        """Start it in a session of its own, under a guard that ends with this process."""
        self.kill()  # what is left of the one before: a pipe
        with self.log_path.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, *self.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(environment),
                cwd=working_dir,
            )
        self._started = time.monotonic()
        self._due = None

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Of the last process; None while it runs."""
        return None if self._guard is None else self._guard.poll()

    def back_off(self) -> float:
        """Seconds until it is due to be started again; longer after each end.

        The first call after an end sets the time, the next ones count it down.
        """
        now = time.monotonic()
        if self._due is None:
            self._ends = 0 if now - self._started > STABLE_SECONDS else self._ends + 1
            self._due = now + min(LONGEST_BACK_OFF_SECONDS, 0.5 * 2**self._ends)
        return max(0.0, self._due - now)

    @property
    def ended_newly(self) -> bool:
        """Whether it ended and nobody has asked :meth:`back_off` yet."""
        return not self.running and self._due is None

    def terminate(self) -> None:
        """Ask its main process to end."""
        if self._guard is not None and self.running:
            self._guard.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with all that it started, and wait until that is done."""
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The end of its log."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.rstrip().splitlines()[-lines:])
