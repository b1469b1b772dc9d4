"""How a trainer is told to stop: SIGTERM, and the pipe of its supervisor. Imports no torch."""

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
"""Exit status after SIGTERM (EX_TEMPFAIL): checkpointed, to be resumed."""


EXIT_DISK_FULL = 74
"""Exit status when the disk is full (EX_IOERR): the event that would say so may not fit on it."""
DISK_FULL = "the disk is full; the last good checkpoint is kept: free some space and resume"


class StopRequested(BaseException):
    """SIGTERM asked the trainer to leave. No error, so that no ``except Exception`` swallows it."""


class StopSignal:
    """Remembers that SIGTERM came.

    Inside :meth:`deferred` it only remembers, and the loop leaves at its next step boundary.
    Outside there is nothing to save, and it raises :class:`StopRequested` at once.

    No moment loses the signal: a forked trainer starts with SIGTERM blocked, and one that comes
    then waits until :meth:`install` unblocks it.

    Attributes:
        requested: SIGTERM came.
        interrupted: :class:`StopRequested` was raised in the middle of something, which may have
            turned it into an error of its own, as an import in C does.
    """

    def __init__(self) -> None:
        self.requested = False
        self.interrupted = False
        self._deferred = False

    def install(self) -> None:
        """Handle SIGTERM in this process, and one that waits; call from the main thread."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only remember a SIGTERM while the block runs; raise it at its end."""
        self.check()
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self.check()

    def check(self) -> None:
        """Raise :class:`StopRequested` if SIGTERM came."""
        if self.requested:
            raise StopRequested

    def _handle(self, _signum: int, _frame: FrameType | None) -> None:
        self.requested = True
        if not self._deferred:
            self.interrupted = True
            raise StopRequested


def watch_supervisor(descriptor: int, silence_seconds: float | None) -> None:
    """Kill this process and its children as soon as the supervisor is gone.

    The supervisor writes a byte now and then; when the pipe closes, or nothing comes for
    ``silence_seconds`` (None: it may be silent), the run belongs to somebody else and not another
    byte may be written.
    """
    thread = threading.Thread(
        target=_watch, args=(descriptor, silence_seconds), name="supervisor-pipe", daemon=True
    )
    thread.start()


def kill_group(pid: int) -> None:
    """Kill a session's first process and whatever it started; fine if nothing of it is left."""
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
