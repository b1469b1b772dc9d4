"""How a trainer's end becomes a change of state: one pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pmae.supervision import EXIT_STOPPED


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What is known when the trainer is gone.

    Attributes:
        ended: it said ``end``.
        error: the message of its ``error`` event.
        exit_status: of the process; negative: the signal that ended it.
        cancelled: somebody asked to cancel, and the trainer was told to stop.
        draining: the worker shuts down, and the trainer was told to stop.
        attempt: which attempt it was.
        max_attempts: how many there may be.
        log_tail: the last lines that it printed.
    """

    ended: bool
    error: str | None
    exit_status: int
    cancelled: bool
    draining: bool
    attempt: int
    max_attempts: int
    log_tail: str = ""


@dataclass(frozen=True)
class Decision:
    """The transition to make.

    Attributes:
        state: where the run goes.
        reason: why, for a researcher.
        counts_attempt: for ``queued``: whether the attempt was used up.
    """

    state: Literal["succeeded", "failed", "cancelled", "queued"]
    reason: str
    counts_attempt: bool = True


def decide(ending: Ending) -> Decision:
    """What becomes of the run. An ``end`` is a success, whatever the process did after it."""
    if ending.ended:
        return Decision("succeeded", "finished")
    if ending.cancelled:
        return Decision("cancelled", "cancelled; its trainer has stopped")
    if ending.error is not None:
        return Decision("failed", ending.error)
    if ending.draining:
        reason = "the worker shut down; the run goes on where it was"
        return Decision("queued", reason, counts_attempt=False)
    if ending.exit_status < 0 or ending.exit_status == EXIT_STOPPED:
        how = f"its trainer was ended by signal {-ending.exit_status}"
        if ending.exit_status == EXIT_STOPPED:
            how = "its trainer was told to stop by somebody else than its worker"
        if ending.attempt < ending.max_attempts:
            return Decision("queued", f"{how}; it will be resumed")
        return Decision("failed", f"{how}, for the {ending.attempt}th time")
    tail = f":\n{ending.log_tail}" if ending.log_tail else ""
    return Decision(
        "failed", f"its trainer ended with status {ending.exit_status} and gave no reason{tail}"
    )
