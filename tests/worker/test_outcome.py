"""What becomes of a run, by how its trainer ended."""

from __future__ import annotations

from typing import Any

import pytest

from worker.outcome import Ending, decide


def _ending(**facts: Any) -> Ending:
    defaults: dict[str, Any] = {
        "ended": False,
        "error": None,
        "exit_status": 0,
        "cancelled": False,
        "draining": False,
        "attempt": 1,
        "max_attempts": 3,
    }
    return Ending(**(defaults | facts))


@pytest.mark.parametrize(
    ("facts", "state", "counts"),
    [
        ({"ended": True}, "succeeded", True),
        ({"ended": True, "exit_status": -9}, "succeeded", True),
        ({"ended": True, "cancelled": True}, "succeeded", True),
        ({"cancelled": True, "exit_status": 75}, "cancelled", True),
        ({"cancelled": True, "exit_status": -9}, "cancelled", True),
        ({"error": "the loss is not finite", "exit_status": 1}, "failed", True),
        ({"error": "x", "draining": True, "exit_status": 1}, "failed", True),
        ({"draining": True, "exit_status": 75}, "queued", False),
        ({"draining": True, "exit_status": -9}, "queued", False),
        ({"exit_status": -9}, "queued", True),
        ({"exit_status": 75}, "queued", True),
        ({"exit_status": -9, "attempt": 3}, "failed", True),
        ({"exit_status": 0}, "failed", True),
        ({"exit_status": 1}, "failed", True),
    ],
)
def test_decisions(facts: dict[str, Any], state: str, counts: bool) -> None:
    decision = decide(_ending(**facts))
    assert (decision.state, decision.counts_attempt) == (state, counts)
    assert decision.reason


def test_a_silent_failure_shows_the_log() -> None:
    assert "No module named" in decide(_ending(exit_status=1, log_tail="No module named x")).reason
