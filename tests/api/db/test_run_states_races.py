"""Requests that come while a worker changes the same run, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.run_states import Claim
from api.db.tables import RunRow
from pmae.presets import get_preset
from pmae.spec import resolve
from tests.support.waiting import wait_until

Sessions = sessionmaker[Session]
SPEC = resolve(get_preset("quickstart").spec)


def _claimed(sessions: Sessions) -> Claim:
    with sessions.begin() as session:
        run_states.submit(session, spec=SPEC)
    with sessions.begin() as session:
        claimed = run_states.claim(session, worker="w1", lease_seconds=60)
    assert claimed is not None
    return claimed


def _cancel(sessions: Sessions, run_id: str) -> None:
    with sessions.begin() as session:
        run_states.request_cancel(session, run_id, actor="ada")


def _row(sessions: Sessions, number: int) -> RunRow:
    with sessions() as session:
        return session.get_one(RunRow, number)


@pytest.mark.parametrize("counts_attempt", [True, False])
def test_a_run_that_is_given_back_after_a_cancel_was_asked_for_is_cancelled(
    sessions: Sessions, counts_attempt: bool
) -> None:
    """The request came after its worker had looked for one for the last time."""
    claimed = _claimed(sessions)
    _cancel(sessions, claimed.run_id)
    with sessions.begin() as session:
        run_states.requeue(session, claimed, reason="drain", counts_attempt=counts_attempt)
    row = _row(sessions, claimed.number)
    assert row.state == "cancelled"
    assert row.finished_at is not None
    assert row.lease_until is None
    assert not row.cancel_requested
    with sessions.begin() as session:
        assert run_states.claim(session, worker="w2", lease_seconds=60) is None


def test_a_cancel_that_meets_a_run_on_its_way_back_to_the_queue_counts(sessions: Sessions) -> None:
    claimed = _claimed(sessions)
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as session:
            run_states.requeue(session, claimed, reason="drain", counts_attempt=False)
            cancelling = pool.submit(_cancel, sessions, claimed.run_id)
            if session.get_bind().dialect.name == "postgresql":
                wait_until(lambda: _somebody_waits(sessions), "the request waits for the worker")
        cancelling.result(timeout=30)
    assert _row(sessions, claimed.number).state == "cancelled"


def _somebody_waits(sessions: Sessions) -> bool:
    with sessions() as session:
        waiting = session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    return bool(waiting)
