"""One service process: start, stop, and back off between restarts."""

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

MAX_BACK_OFF_SECONDS = 30.0
STABLE_SECONDS = 60.0
"""After running this long a service has recovered, and its backoff starts anew."""
TAIL_BYTES = 16_384


@dataclass
class Service:
    """A service: its command and its current process.

    Attributes:
        name: name in messages and of its log file.
        command: program and arguments.
        log_path: file to which standard output and error are appended.
        stop_seconds: seconds from SIGTERM until the service is killed.
        is_ready: returns True once the started service can do its work.
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
        """Start the service in its own session, under a guard that ends with this process."""
        self.kill()  # closes the pipe of the previous process
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
        """True while its process runs."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Exit status of the last process; None while it runs, and before the first start."""
        return None if self._guard is None else self._guard.poll()

    def back_off(self) -> float:
        """Return the seconds until the next start; they double after each end, up to a maximum.

        The first call after an end sets the time of that start.
        """
        now = time.monotonic()
        if self._due is None:
            self._ends = 0 if now - self._started > STABLE_SECONDS else self._ends + 1
            self._due = now + min(MAX_BACK_OFF_SECONDS, 0.5 * 2**self._ends)
        return max(0.0, self._due - now)

    @property
    def ended_newly(self) -> bool:
        """True if it has ended and :meth:`back_off` was not called since."""
        return not self.running and self._due is None

    def terminate(self) -> None:
        """Send SIGTERM, which the guard passes on to the service's main process."""
        if self._guard is not None and self.running:
            self._guard.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the service and its descendants, and wait until they are gone."""
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of its log."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.rstrip().splitlines()[-lines:])
