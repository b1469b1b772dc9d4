"""Data loader processes that survive a scheduler's SIGTERM.

A cluster's scheduler sends SIGTERM to every process of a job. The trainer still needs its workers
then, to finish its step and write a checkpoint: they obey only the trainer's SIGTERM.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_HAS_SIGWAITINFO = hasattr(signal, "sigwaitinfo")
"""False on macOS, where any SIGTERM ends the workers."""


@contextmanager
def starting_workers() -> Iterator[None]:
    """Block SIGTERM in all threads of processes that are started within the block."""
    if not _HAS_SIGWAITINFO:
        yield
        return
    # Started later, the resource tracker would unblock SIGTERM.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(_number: int) -> None:
    """Initialise a worker, which ends at a SIGTERM of its trainer only."""
    if _HAS_SIGWAITINFO:
        threading.Thread(target=_wait_for_sigterm, args=(os.getppid(),), daemon=True).start()


def _wait_for_sigterm(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
