"""How a trainer's end becomes a change of state: one pure function."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

from pmae.training.process.signals import DISK_FULL, EXIT_DISK_FULL, EXIT_STOPPED


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What is known when the trainer is gone.

    Attributes:
        ended: it said ``end``.
        error: code and message of its ``error`` event.
        exit_status: of the process; negative: the signal that ended it; None: nobody saw it.
        cancelled: somebody asked to cancel, and the trainer was told to stop.
        draining: the worker gives its run back, and the trainer was told to stop.
        hung: it told nothing for so many seconds and was killed; None: it did not hang.
        attempt: how often it was started since it last got further.
        max_attempts: how often it may be.
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
        state: where the run goes.
        reason: why, for a researcher.
        code: of a failure, for programs.
        counts_attempt: for ``queued``: whether the attempt was used up.
    """

    state: Literal["succeeded", "failed", "cancelled", "queued"]
    reason: str
    code: str | None = None
    counts_attempt: bool = True


def decide(ending: Ending) -> Decision:
    """What becomes of the run. An ``end`` is a success, whatever the process did after it."""
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
        reason = "the worker gave it back; it goes on where it was"
        return Decision("queued", reason, counts_attempt=False)
    how = _interruption(ending)
    if how is None:
        reason = f"its trainer ended with status {ending.exit_status} and gave no reason"
        return Decision("failed", reason, "trainer_died")
    if ending.attempt < ending.max_attempts:
        return Decision("queued", f"{how}; it will be resumed")
    times = f"{ending.attempt} times in a row without getting any further"
    hint = ""
    if ending.exit_status == -signal.SIGKILL and ending.hung is None:
        hint = "; the system does that to a process that needs more memory than there is"
    return Decision("failed", f"{how}, {times}{hint}", "trainer_killed")


def _interruption(ending: Ending) -> str | None:
    """What ended a trainer that did not end by itself; None if it did."""
    if ending.hung is not None:
        return f"its trainer hung: it told nothing for {ending.hung:g} s and was killed"
    if ending.exit_status is None:
        return "its trainer ended, and nobody saw how"
    if ending.exit_status < 0:
        return f"its trainer was ended by {_signal_name(-ending.exit_status)}"
    if ending.exit_status == EXIT_STOPPED:
        return "its trainer was told to stop by somebody else than its worker"
    return None


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
