"""What becomes of a run, by how its trainer ended."""

from __future__ import annotations

from typing import Any

import pytest

from worker.supervision.outcome import Ending, decide


def _ending(**facts: Any) -> Ending:
    defaults: dict[str, Any] = {
        "ended": False,
        "error": None,
        "exit_status": 0,
        "cancelled": False,
        "draining": False,
        "hung": None,
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
        ({"error": ("non_finite_loss", "x"), "exit_status": 1}, "failed", True),
        ({"error": ("x", "x"), "draining": True, "exit_status": 1}, "failed", True),
        ({"draining": True, "exit_status": 75}, "queued", False),
        ({"draining": True, "exit_status": -9}, "queued", False),
        ({"exit_status": -9}, "queued", True),
        ({"exit_status": 75}, "queued", True),
        ({"exit_status": -9, "attempt": 3}, "failed", True),
        ({"exit_status": -9, "hung": 60.0}, "queued", True),
        ({"exit_status": -9, "hung": 60.0, "attempt": 3}, "failed", True),
        ({"exit_status": 74}, "failed", True),
        ({"exit_status": 0}, "failed", True),
        ({"exit_status": 1}, "failed", True),
    ],
)
def test_decisions(facts: dict[str, Any], state: str, counts: bool) -> None:
    decision = decide(_ending(**facts))
    assert (decision.state, decision.counts_attempt) == (state, counts)
    assert decision.reason


def test_reasons_are_for_researchers() -> None:
    killed = decide(_ending(exit_status=-9, attempt=3))
    assert "3 times in a row without progress" in killed.reason
    assert "memory runs out" in killed.reason
    hung = decide(_ending(exit_status=-9, hung=60.0, attempt=3))
    assert "wrote no event for 60 s" in hung.reason
    assert "memory" not in hung.reason
    assert decide(_ending(exit_status=74)).code == "disk_full"
