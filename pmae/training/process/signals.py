"""Stop signals of a trainer: SIGTERM, and its supervisor's pipe. Imports no torch."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT_STOPPED = 75
"""Exit status after SIGTERM (EX_TEMPFAIL): a checkpoint was written, and the run can resume."""


EXIT_DISK_FULL = 74
"""Exit status when the disk is full (EX_IOERR), since an error event may not fit on it."""
DISK_FULL = "the disk is full; the last good checkpoint is kept: free some space and resume"


class StopRequested(BaseException):
    """SIGTERM was received. Not an Exception, so that no ``except Exception`` swallows it."""


class StopSignal:
    """Handler of SIGTERM.

    Inside :meth:`deferred` it only sets :attr:`requested`, and the loop stops at its next step.
    Outside there is nothing to save, and it raises :class:`StopRequested` at once.

    No signal is lost: a forked trainer starts with SIGTERM blocked, and an early one stays pending
    until :meth:`install` unblocks it.

    Attributes:
        requested: SIGTERM was received.
        interrupted: :class:`StopRequested` was raised inside other code, which may have turned it
            into another error, as an import in C does.
    """

    def __init__(self) -> None:
        self.requested = False
        self.interrupted = False
        self._deferred = False

    def install(self) -> None:
        """Handle SIGTERM in this process, a pending one included; call from the main thread."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer a SIGTERM received in the block: raise :class:`StopRequested` at its end."""
        self.check()
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self.check()

    def check(self) -> None:
        """Raise :class:`StopRequested` if SIGTERM was received."""
        if self.requested:
            raise StopRequested

    def _handle(self, _signum: int, _frame: FrameType | None) -> None:
        self.requested = True
        if not self._deferred:
            self.interrupted = True
            raise StopRequested


def watch_supervisor(descriptor: int, silence_seconds: float | None) -> None:
    """Kill this process and its children as soon as the supervisor is gone.

    The supervisor writes a byte now and then. When the pipe closes, or is silent for
    ``silence_seconds`` (None: no limit), the run belongs to another worker, and this process must
    not write another byte.
    """
    thread = threading.Thread(
        target=_watch, args=(descriptor, silence_seconds), name="supervisor-pipe", daemon=True
    )
    thread.start()


def kill_group(pid: int) -> None:
    """Kill the process group ``pid``; do nothing if it has no process left."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _watch(descriptor: int, silence_seconds: float | None) -> None:
    while True:
        readable, _, _ = select.select([descriptor], [], [], silence_seconds)
        if not readable:
            _die(f"the supervisor was silent for {silence_seconds:g} s")
        if not os.read(descriptor, 4096):
            _die("the supervisor is gone")


def _die(reason: str) -> NoReturn:
    sys.stderr.write(f"{reason}: stopping at once\n")
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
