"""Map the end of a trainer to a change of the run's state: one pure function."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

from pmae.training.process.signals import DISK_FULL, EXIT_DISK_FULL, EXIT_STOPPED


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The facts about a trainer that has exited.

    Attributes:
        ended: it wrote an ``end`` event.
        error: code and message of its ``error`` event.
        exit_status: of the process; negative: the signal that ended it; None: unknown.
        cancelled: cancellation was requested, and the trainer was asked to stop.
        draining: the worker gives its run back, and the trainer was asked to stop.
        hung: seconds without an event after which it was killed; None: it did not hang.
        attempt: number of starts since the run last made progress.
        max_attempts: maximum of ``attempt``.
    """

    ended: bool
    error: tuple[str, str] | None
    exit_status: int | None
    cancelled: bool
    draining: bool
    hung: float | None
    attempt: int
    max_attempts: int


@dataclass(frozen=True)
class Decision:
    """The transition to make.

    Attributes:
        state: next state of the run.
        reason: why, for people.
        code: of a failure, for programs.
        counts_attempt: for ``queued``: True if an attempt was used up.
    """

    state: Literal["succeeded", "failed", "cancelled", "queued"]
    reason: str
    code: str | None = None
    counts_attempt: bool = True


def decide(ending: Ending) -> Decision:
    """Decide the next state. After an ``end`` event it is a success, whatever the exit status."""
    if ending.ended:
        return Decision("succeeded", "finished")
    if ending.cancelled:
        return Decision("cancelled", "cancelled; its trainer has stopped")
    if ending.error is not None:
        code, message = ending.error
        return Decision("failed", message, code)
    if ending.exit_status == EXIT_DISK_FULL:
        return Decision("failed", DISK_FULL, "disk_full")
    if ending.draining:
        reason = "the worker gave it back; it will be resumed"
        return Decision("queued", reason, counts_attempt=False)
    how = _interruption(ending)
    if how is None:
        reason = f"its trainer exited with status {ending.exit_status} without an error event"
        return Decision("failed", reason, "trainer_died")
    if ending.attempt < ending.max_attempts:
        return Decision("queued", f"{how}; it will be resumed")
    times = f"{ending.attempt} times in a row without progress"
    hint = ""
    if ending.exit_status == -signal.SIGKILL and ending.hung is None:
        hint = "; the system kills a process when memory runs out"
    return Decision("failed", f"{how}, {times}{hint}", "trainer_killed")


def _interruption(ending: Ending) -> str | None:
    """Describe what ended a trainer from outside; None if it exited by itself."""
    if ending.hung is not None:
        return f"its trainer hung: it wrote no event for {ending.hung:g} s and was killed"
    if ending.exit_status is None:
        return "its trainer ended with an unknown status"
    if ending.exit_status < 0:
        return f"its trainer was ended by {_signal_name(-ending.exit_status)}"
    if ending.exit_status == EXIT_STOPPED:
        return "its trainer was stopped by something other than its worker"
    return None


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
