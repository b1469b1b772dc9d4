"""Every transition of a run, each refused one, fences and races, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.clock import database_now
from api.db.errors import LeaseLostError, RunNotFoundError, TransitionRefusedError
from api.db.run_states import Claim, Slot
from api.db.tables import RunEventRow, RunRow, WorkerRow
from api.queue.reconcile import repeat_wake_ups
from pmae.presets import get_preset
from pmae.spec import resolve

Sessions = sessionmaker[Session]
SPEC = resolve(get_preset("quickstart").spec)


def _submit(sessions: Sessions, *, priority: int = 0, max_attempts: int = 3) -> str:
    with sessions.begin() as session:
        row = run_states.submit(session, spec=SPEC, priority=priority, max_attempts=max_attempts)
        return row.id


def _claim(sessions: Sessions, worker: str = "w1", lease_seconds: float = 60) -> Claim | None:
    with sessions.begin() as session:
        return run_states.claim(session, worker=worker, lease_seconds=lease_seconds)


def _claimed(sessions: Sessions, **options: Any) -> Claim:
    claimed = _claim(sessions, **options)
    assert claimed is not None
    return claimed


def _row(sessions: Sessions, run_id: str) -> RunRow:
    with sessions() as session:
        return session.scalars(select(RunRow).where(RunRow.id == run_id)).one()


def _changes(sessions: Sessions, run_id: str) -> list[tuple[str | None, str]]:
    with sessions() as session:
        number = session.scalar(select(RunRow.number).where(RunRow.id == run_id))
        rows = session.scalars(
            select(RunEventRow)
            .where(RunEventRow.run_number == number, RunEventRow.type == "state")
            .order_by(RunEventRow.id)
        )
        return [(row.data["from"], row.data["to"]) for row in rows]


def _expire(sessions: Sessions) -> list[str]:
    with sessions.begin() as session:
        session.execute(update(RunRow).values(lease_until=database_now() - 1))
    with sessions.begin() as session:
        return run_states.expire_leases(session)


def test_a_run_goes_from_queued_over_running_to_its_end(sessions: Sessions) -> None:
    run_id = _submit(sessions)
    claimed = _claimed(sessions)
    assert (claimed.run_id, claimed.lease_number, claimed.attempt) == (run_id, 1, 1)
    assert _claim(sessions) is None
    with sessions.begin() as session:
        assert run_states.heartbeat(session, claimed, lease_seconds=60) is False
    with sessions.begin() as session:
        run_states.finish(session, claimed, state="succeeded", reason="finished")
    row = _row(sessions, run_id)
    assert (row.state, row.reason, row.lease_until) == ("succeeded", None, None)
    assert row.started_at is not None
    assert row.finished_at is not None
    assert row.created_at <= row.started_at <= row.finished_at
    assert _changes(sessions, run_id) == [
        (None, "queued"),
        ("queued", "running"),
        ("running", "succeeded"),
    ]


def test_higher_priority_first_then_age(sessions: Sessions) -> None:
    first, second, urgent = (_submit(sessions, priority=p) for p in (0, 0, 5))
    assert [_claimed(sessions).run_id for _ in range(3)] == [urgent, first, second]


def test_of_many_claimers_each_run_goes_to_one(sessions: Sessions) -> None:
    submitted = {_submit(sessions) for _ in range(5)}
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: _claim(sessions, f"w{n}"), range(8)))
    taken = [claimed.run_id for claimed in claims if claimed]
    assert sorted(taken) == sorted(submitted)


def test_a_stale_workers_writes_touch_nothing(sessions: Sessions) -> None:
    run_id = _submit(sessions)
    stale = _claimed(sessions)
    assert _expire(sessions) == [run_id]
    current = _claimed(sessions)
    assert (current.lease_number, current.attempt) == (2, 2)
    with pytest.raises(LeaseLostError), sessions.begin() as session:
        run_states.heartbeat(session, stale, lease_seconds=60)
    with pytest.raises(LeaseLostError), sessions.begin() as session:
        run_states.finish(session, stale, state="failed", reason="zombie")
    with pytest.raises(LeaseLostError), sessions.begin() as session:
        run_states.requeue(session, stale, reason="zombie", counts_attempt=True)
    row = _row(sessions, run_id)
    assert (row.state, row.lease_number) == ("running", 2)


def test_a_stale_worker_does_not_touch_a_run_that_has_the_number_of_its_deleted_one(
    sessions: Sessions,
) -> None:
    _submit(sessions)
    stale = _claimed(sessions)
    with sessions.begin() as session:
        session.execute(delete(RunRow))
    _submit(sessions)
    current = _claimed(sessions)
    with sessions.begin() as session:
        session.execute(delete(RunEventRow))
        session.execute(update(RunRow).values(number=stale.number))
    assert current.lease_number == stale.lease_number
    with pytest.raises(LeaseLostError), sessions.begin() as session:
        run_states.heartbeat(session, stale, lease_seconds=60)
    with pytest.raises(LeaseLostError), sessions.begin() as session:
        run_states.finish(session, stale, state="failed", reason="zombie")
    assert _row(sessions, current.run_id).state == "running"


def test_cancelling(sessions: Sessions) -> None:
    waiting = _submit(sessions)
    with sessions.begin() as session:
        run_states.request_cancel(session, waiting, actor="api")
    assert _row(sessions, waiting).state == "cancelled"
    running = _submit(sessions)
    claimed = _claimed(sessions)
    with sessions.begin() as session:
        run_states.request_cancel(session, running, actor="api")
    assert _row(sessions, running).state == "running"
    with sessions.begin() as session:
        assert run_states.heartbeat(session, claimed, lease_seconds=60) is True
    with sessions.begin() as session:
        run_states.finish(session, claimed, state="cancelled", reason="cancelled")
    with (
        pytest.raises(TransitionRefusedError, match="is already cancelled"),
        sessions.begin() as session,
    ):
        run_states.request_cancel(session, running, actor="api")
    with pytest.raises(RunNotFoundError), sessions.begin() as session:
        run_states.request_cancel(session, "nowhere", actor="api")
    assert _row(sessions, waiting).reason == "cancelled before it started"
    with sessions.begin() as session:
        run_states.resume(session, running, actor="api")
        run_states.request_cancel(session, running, actor="api")
    assert _row(sessions, running).reason == "cancelled while it waited to continue"


def test_an_ended_lease_gives_the_run_back_as_often_as_it_may(sessions: Sessions) -> None:
    run_id = _submit(sessions, max_attempts=2)
    _claimed(sessions)
    assert _expire(sessions) == [run_id]
    assert _expire(sessions) == []
    assert _row(sessions, run_id).state == "queued"
    _claimed(sessions)
    _expire(sessions)
    assert _row(sessions, run_id).state == "failed"
    with sessions.begin() as session:
        run_states.resume(session, run_id, actor="api")
    assert _claimed(sessions).attempt == 1
    with sessions.begin() as session:
        run_states.request_cancel(session, run_id, actor="api")
    _expire(sessions)
    assert _row(sessions, run_id).state == "cancelled"


def test_a_drained_run_keeps_its_attempts(sessions: Sessions) -> None:
    _submit(sessions)
    claimed = _claimed(sessions)
    with sessions.begin() as session:
        run_states.requeue(session, claimed, reason="drain", counts_attempt=False)
    again = _claimed(sessions)
    assert (again.lease_number, again.attempt) == (2, 1)


def test_a_resumed_run_has_its_spec_written_out(sessions: Sessions) -> None:
    run_id = _submit(sessions)
    with sessions.begin() as session:
        run_states.request_cancel(session, run_id, actor="api")
    other = SPEC.model_copy(update={"notes": "written out"})
    with sessions.begin() as session:
        run_states.resume(session, run_id, spec=other, actor="api")
    assert _row(sessions, run_id).spec == other.model_dump(mode="json")


def test_the_name_of_a_preset_may_have_many_parameters(sessions: Sessions) -> None:
    name = get_preset(
        "paper?dataset=tiny_imagenet&ratio=0.111111-0.999999&strategy=bottom&basis=pca_augmented"
        "&ratio_of=components&scope=image&model=vit_small&decoder_depth=4&evaluations=layers"
    ).name
    assert 64 < len(name) <= 200
    with sessions.begin() as session:
        run_id = run_states.submit(session, spec=SPEC, preset=name).id
    assert _row(sessions, run_id).preset == name


def test_only_ended_runs_resume(sessions: Sessions) -> None:
    run_id = _submit(sessions)
    with pytest.raises(TransitionRefusedError, match="is queued"), sessions.begin() as session:
        run_states.resume(session, run_id, actor="api")
    with pytest.raises(RunNotFoundError), sessions.begin() as session:
        run_states.resume(session, "nowhere", actor="api")


def test_the_reconciler_repeats_wake_ups_while_runs_wait(sessions: Sessions) -> None:
    queue: list[str] = []

    def reconcile() -> None:
        repeat_wake_ups(
            sessions,
            send=queue.append,
            waiting_messages=queue.count,
            worker_silence_seconds=30,
        )

    reconcile()
    assert len(queue) == 0
    for _ in range(3):
        _submit(sessions)
    reconcile()
    reconcile()
    assert len(queue) == 1
    with sessions.begin() as session:
        for name in ("a", "b"):
            session.add(_worker(name))
        session.add(_worker("c", kinds=["evaluate"]))
        session.add(_worker("d", drain_requested=True))
    reconcile()
    assert queue == ["pretrain", "pretrain"]


def _worker(name: str, **facts: Any) -> WorkerRow:
    defaults: dict[str, Any] = {
        "host": "h",
        "pid": 1,
        "started_at": database_now(),
        "last_seen_at": database_now(),
        "kinds": ["pretrain"],
        "devices": 1,
    }
    return WorkerRow(name=name, **(defaults | facts))


def test_a_slot_takes_only_what_it_can_serve(sessions: Sessions) -> None:
    with sessions.begin() as session:
        spec = SPEC.model_copy(update={"devices": 4})
        wide = run_states.submit(session, spec=spec, priority=9).id
    narrow = _submit(sessions)
    with sessions.begin() as session:
        nothing = run_states.claim(
            session, worker="w1", lease_seconds=60, slot=Slot(kinds=("evaluate",), devices=8)
        )
        small = run_states.claim(session, worker="w1", lease_seconds=60)
        large = run_states.claim(session, worker="w2", lease_seconds=60, slot=Slot(devices=4))
    assert nothing is None
    assert small is not None
    assert large is not None
    assert (small.run_id, large.run_id) == (narrow, wide)


def test_what_a_dead_child_held_is_given_back(sessions: Sessions) -> None:
    run_ids = [_submit(sessions) for _ in range(3)]
    _claimed(sessions, worker="w1")
    _claimed(sessions, worker="w2")
    with sessions.begin() as session:
        assert run_states.release_all_of(session, "w1", reason="it died") == run_ids[:1]
        assert run_states.release_all_of(session, "w1", reason="it died") == []
    assert [_row(sessions, run_id).state for run_id in run_ids] == ["queued", "running", "queued"]
    assert _row(sessions, run_ids[0]).reason == "it died"


def test_only_ended_runs_are_deleted_and_then_nothing_changes_them(sessions: Sessions) -> None:
    run_id = _submit(sessions)
    with pytest.raises(TransitionRefusedError, match="cancel it first"):  # noqa: SIM117
        with sessions.begin() as session:
            run_states.mark_deleted(session, run_id)
    with sessions.begin() as session:
        run_states.request_cancel(session, run_id, actor="api")
    with sessions.begin() as session:
        run_states.mark_deleted(session, run_id)
    with pytest.raises(RunNotFoundError), sessions.begin() as session:
        run_states.mark_deleted(session, run_id)
    with pytest.raises(RunNotFoundError), sessions.begin() as session:
        run_states.resume(session, run_id, actor="api")
    with pytest.raises(RunNotFoundError), sessions.begin() as session:
        run_states.request_cancel(session, run_id, actor="api")
    assert _claim(sessions) is None
