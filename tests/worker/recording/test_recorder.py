"""The recorder: nothing lost, nothing twice, nothing by a stale worker."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from api.db.errors import LeaseLostError
from api.db.run_states import Claim
from api.db.tables import (
    CheckpointRow,
    EvaluationRow,
    MetricBlockRow,
    MetricRow,
    RunEventRow,
    RunRow,
)
from pmae.runs.events import (
    CheckpointEvent,
    CheckpointRemovedEvent,
    EndEvent,
    ErrorEvent,
    EvaluationEvent,
    FileFacts,
    MetricsEvent,
    ProgressEvent,
    StageEvent,
    StartEvent,
    WarningEvent,
)
from pmae.runs.layout import LeaseDir, RunDir
from worker.recording.recorder import Recorder

Sessions = sessionmaker[Session]
FILES = {"model.safetensors": FileFacts(sha256="0" * 64, size=1)}


@pytest.fixture
def lease(tmp_path: Path) -> LeaseDir:
    return LeaseDir(tmp_path, 1)


def _checkpoint(step: int, kind: Literal["kept", "latest"]) -> CheckpointEvent:
    return CheckpointEvent(
        name=f"step-{step:08d}", kind=kind, lease=1, step=step, epoch=step / 10, files=FILES
    )


EVENTS = [
    StartEvent(lease=1, environment={"threads": 1}),
    StageEvent(stage="pretrain"),
    *(MetricsEvent(step=s, epoch=s / 10, values={"loss": 1 / s, "lr": 0.1}) for s in (1, 2, 3)),
    ProgressEvent(stage="pretrain", done=3, total=10, epoch=1, total_epochs=2, loss=1 / 3),
    _checkpoint(3, "latest"),
    _checkpoint(5, "latest"),
    _checkpoint(6, "kept"),
    CheckpointRemovedEvent(name="step-00000006"),
    _checkpoint(8, "kept"),
    _checkpoint(9, "latest"),
    StageEvent(stage="probe"),
    EvaluationEvent(
        key="linear/encoder", protocol="linear", features="encoder", step=6, epoch=1, top1=0.9
    ),
    EndEvent(step=6),
]
LINES = [event.model_dump_json().encode() + b"\n" for event in EVENTS]


def _contents(sessions: Sessions) -> list[object]:
    with sessions() as session:
        metrics = session.scalars(select(MetricRow).order_by(MetricRow.name, MetricRow.step))
        points = [(row.name, row.step, row.value) for row in metrics]
        blocks = session.execute(
            select(MetricBlockRow.name, func.sum(MetricBlockRow.total))
            .group_by(MetricBlockRow.name)
            .order_by(MetricBlockRow.name)
        )
        counted = Counter(name for name, *_ in points)
        assert [(name, int(total)) for name, total in blocks] == sorted(counted.items())
        events = session.scalars(select(RunEventRow).order_by(RunEventRow.id))
        told = [(row.type, row.message) for row in events]
        by_name = select(CheckpointRow).order_by(CheckpointRow.name)
        checkpoints = [(row.name, row.kind) for row in session.scalars(by_name)]
        tops = [(row.key, row.top1) for row in session.scalars(select(EvaluationRow))]
        return [points, told, checkpoints, tops]


def test_events_become_rows(sessions: Sessions, claimed: Claim, lease: LeaseDir) -> None:
    lease.events.write_bytes(b"".join(LINES))
    recorder = Recorder(sessions, claimed, lease)
    recorder.record_all()
    assert recorder.ended
    points, told, checkpoints, tops = _contents(sessions)
    assert points == [("loss", s, 1 / s) for s in (1, 2, 3)] + [("lr", s, 0.1) for s in (1, 2, 3)]
    assert sorted(checkpoints) == [("step-00000008", "kept"), ("step-00000009", "latest")]  # type: ignore[call-overload]
    assert tops == [("linear/encoder", 0.9)]
    assert ("evaluation", "linear probe on encoder: top-1 90.0%") in told  # type: ignore[operator]
    with sessions() as session:
        row = session.scalars(select(RunRow)).one()
    assert row.last_metrics == {"loss": 1 / 3, "lr": 0.1}
    assert row.progress == {"stage": "probe", "epoch": 1, "total_epochs": 2}
    assert (row.top1, row.environment) == (0.9, {"threads": 1})
    assert row.recorded_offset == sum(map(len, LINES))


@pytest.mark.parametrize("cut", [1, 4, 7, len(LINES)])
def test_reading_a_prefix_twice_changes_nothing(
    sessions: Sessions, claimed: Claim, lease: LeaseDir, cut: int
) -> None:
    lease.events.write_bytes(b"".join(LINES[:cut]))
    Recorder(sessions, claimed, lease).record_all()
    lease.events.write_bytes(b"".join(LINES))
    Recorder(sessions, claimed, lease).record_all()
    once = _contents(sessions)
    Recorder(sessions, claimed, lease).record_all()
    assert _contents(sessions) == once


def test_a_torn_line_waits_and_a_malformed_one_is_reported(
    sessions: Sessions, claimed: Claim, lease: LeaseDir
) -> None:
    recorder = Recorder(sessions, claimed, lease)
    assert recorder.record() is False
    torn = LINES[2]
    lease.events.write_bytes(b"garbage\n" + torn[:20])
    recorder.record_all()
    points, told, *_ = _contents(sessions)
    assert points == []
    assert any("skipped" in message and "garbage" in message for _, message in told)  # type: ignore[attr-defined]
    with lease.events.open("ab") as file:
        file.write(torn[20:])
    recorder.record_all()
    assert len(_contents(sessions)[0]) == 2  # type: ignore[arg-type]


def test_a_line_that_is_longer_than_a_chunk_holds_nothing_up(
    sessions: Sessions, claimed: Claim, lease: LeaseDir
) -> None:
    message = "x" * 600_000
    long = WarningEvent(message=message).model_dump_json().encode() + b"\n"
    recorder = Recorder(sessions, claimed, lease)
    lease.events.write_bytes(LINES[0] + long[:-100])
    recorder.record_all()
    lease.events.write_bytes(LINES[0] + long + LINES[-1])
    recorder.record_all()
    assert recorder.ended
    assert ("warning", message) in _contents(sessions)[1]  # type: ignore[operator]


def test_what_no_database_stores_is_replaced(
    sessions: Sessions, claimed: Claim, lease: LeaseDir
) -> None:
    told = [WarningEvent(message="a\0b"), ErrorEvent(code="data_error", message="c\0d")]
    lease.events.write_bytes(b"".join(event.model_dump_json().encode() + b"\n" for event in told))
    recorder = Recorder(sessions, claimed, lease)
    recorder.record_all()
    assert ("warning", "a\ufffdb") in _contents(sessions)[1]  # type: ignore[operator]
    assert recorder.error is not None
    assert recorder.error.message == "c\ufffdd"


def test_a_stale_lease_records_nothing(sessions: Sessions, claimed: Claim, lease: LeaseDir) -> None:
    lease.events.write_bytes(b"".join(LINES))
    with sessions.begin() as session:
        session.execute(update(RunRow).values(lease_number=2))
    before = _contents(sessions)
    with pytest.raises(LeaseLostError):
        Recorder(sessions, claimed, lease).record()
    assert _contents(sessions) == before


def test_a_checkpoint_that_was_deleted_does_not_come_back_with_a_resume(
    sessions: Sessions, claimed: Claim, tmp_path: Path
) -> None:
    first, second = RunDir(tmp_path).lease(1), RunDir(tmp_path).lease(2)
    for lease in (first, second):
        lease.path.mkdir()
    (first.checkpoints / "step-00000008").mkdir(parents=True)
    carried = [_checkpoint(6, "kept"), _checkpoint(8, "kept")]
    lines = [event.model_dump_json().encode() + b"\n" for event in carried]
    second.events.write_bytes(b"".join(lines))
    resumed = replace(claimed, lease_number=2)
    with sessions.begin() as session:
        session.execute(update(RunRow).values(lease_number=2))
    Recorder(sessions, resumed, second).record_all()
    with sessions() as session:
        assert session.scalars(select(CheckpointRow.step)).all() == [8]


def test_a_new_result_gets_a_run_further_and_one_that_is_told_again_does_not(
    sessions: Sessions, claimed: Claim, lease: LeaseDir
) -> None:
    result = EvaluationEvent(
        time=50, key="knn/encoder", protocol="knn", features="encoder", step=6, epoch=1, top1=0.9
    )
    start = StartEvent(time=100, lease=1)
    lease.events.write_text(f"{start.model_dump_json()}\n{result.model_dump_json()}\n")
    recorder = Recorder(sessions, claimed, lease)
    recorder.record_all()
    assert not recorder.advanced, "an earlier lease measured it"
    new = result.model_copy(update={"time": 150.0, "key": "knn-2/encoder"})
    with lease.events.open("a") as file:
        file.write(new.model_dump_json() + "\n")
    recorder.record_all()
    assert recorder.advanced
