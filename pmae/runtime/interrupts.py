"""Signals that ask a process to stop, counted instead of raised as exceptions."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Context manager, for the main thread, that counts SIGINT, SIGTERM and SIGHUP."""

    def __init__(self) -> None:
        self.count = 0
        self._previous = {number: signal.getsignal(number) for number in SIGNALS}

    @property
    def requested(self) -> bool:
        """True after the first signal."""
        return self.count > 0

    def pause(self, seconds: float) -> None:
        """Sleep until ``seconds`` have passed or a signal arrives."""
        if select.select([self._read], [], [], seconds)[0]:
            os.read(self._read, 64)

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
