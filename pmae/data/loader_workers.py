"""Decoding processes that a scheduler's SIGTERM does not end.

A cluster's scheduler sends SIGTERM to every process of a job. The trainer then finishes its step
and writes a checkpoint, and needs its workers for that: they heed the trainer's SIGTERM only.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_CAN_TELL_SENDERS = hasattr(signal, "sigwaitinfo")
"""Not on macOS, where a SIGTERM ends the workers as usual."""


@contextmanager
def starting_workers() -> Iterator[None]:
    """Processes started in this block have SIGTERM blocked, in every thread they will have."""
    if not _CAN_TELL_SENDERS:
        yield
        return
    # Its start would unblock SIGTERM again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(_number: int) -> None:
    """To be called in each worker: end it when its trainer says so."""
    if _CAN_TELL_SENDERS:
        threading.Thread(target=_heed, args=(os.getppid(),), daemon=True).start()


def _heed(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
