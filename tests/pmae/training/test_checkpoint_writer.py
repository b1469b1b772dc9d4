"""Checkpoints written by a thread: in order, durable before they are told of, errors not lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pmae.runs.checkpoints import (
    CheckpointConfig,
    TrainingState,
    newest_valid,
    read_carried_events,
    read_manifest,
    read_state,
)
from pmae.runs.events import CheckpointEvent, EventWriter, MetricsEvent, read_events
from pmae.runs.layout import LeaseDir, RunDir
from pmae.runtime.transfer import host_copy
from pmae.spec import ExperimentSpec
from pmae.training.checkpoint_writer import MAX_BYTES_PER_SECOND, CheckpointWriter


@pytest.fixture
def lease(tmp_path: Path) -> LeaseDir:
    lease = RunDir(tmp_path / "run").lease(1)
    lease.path.mkdir(parents=True)
    return lease


@pytest.fixture
def events(lease: LeaseDir) -> Iterator[EventWriter]:
    writer = EventWriter(lease.events)
    yield writer
    writer.close()


@pytest.fixture
def writer(
    lease: LeaseDir, events: EventWriter, tiny_spec: ExperimentSpec
) -> Iterator[CheckpointWriter]:
    config = CheckpointConfig(
        spec=tiny_spec, channels=1, class_names=("a", "b"), data_digest="d", basis_digest=None
    )
    made = CheckpointWriter(lease, events, config, frozenset())
    yield made
    made.close()


def _state(value: float, size: int = 3) -> TrainingState:
    weights = {"weight": torch.full((size,), float(value))}
    return TrainingState(weights, {"state": {}, "param_groups": []}, {"loss": value})


def _step(events: EventWriter, writer: CheckpointWriter, step: int) -> None:
    events.write(MetricsEvent(step=step, epoch=step, values={"loss": float(step)}))
    writer.write(kind="kept", step=step, epoch=step, state=_state(step), metrics={})


def test_checkpoints_carry_the_events_up_to_their_step_and_are_told_of_in_order(
    lease: LeaseDir, events: EventWriter, writer: CheckpointWriter
) -> None:
    for step in (1, 2, 3):
        _step(events, writer, step)
        events.write(MetricsEvent(step=step, epoch=step, values={"lr": 0.5}))
    writer.flush()
    assert not writer.busy
    told = [event.step for event in read_events(lease.events) if isinstance(event, CheckpointEvent)]
    assert told == [1, 2, 3]
    for step in told:
        folder = lease.checkpoints / f"step-{step:08d}"
        assert read_manifest(folder).step == step
        carried = read_carried_events(folder)
        assert isinstance(carried[-1], CheckpointEvent)
        assert [e.step for e in carried if isinstance(e, CheckpointEvent)] == told[:step]
        losses = [e.step for e in carried if isinstance(e, MetricsEvent) and "loss" in e.values]
        assert losses == told[:step]
        assert float(read_state(folder).weights["weight"][0]) == step


def test_what_the_disk_refuses_is_raised_and_the_older_checkpoint_stays(
    lease: LeaseDir, events: EventWriter, writer: CheckpointWriter
) -> None:
    _step(events, writer, 1)
    writer.flush()
    lease.checkpoints.rename(lease.path / "aside")
    lease.checkpoints.write_text("a file where a folder should be")
    _step(events, writer, 2)
    with pytest.raises(OSError, match="checkpoints"):
        _step(events, writer, 3)
    lease.checkpoints.unlink()
    (lease.path / "aside").rename(lease.checkpoints)
    folder, skipped = newest_valid(RunDir(lease.path.parent))
    assert folder == lease.checkpoints / "step-00000001"
    assert skipped == []
    told = [event.step for event in read_events(lease.events) if isinstance(event, CheckpointEvent)]
    assert told == [1]


def test_a_large_checkpoint_is_made_less_often(
    events: EventWriter, writer: CheckpointWriter, tiny_spec: ExperimentSpec
) -> None:
    assert writer.interval_seconds == tiny_spec.checkpoint.latest_seconds == 0
    floats = MAX_BYTES_PER_SECOND // 8
    writer.write(kind="latest", step=1, epoch=1, state=_state(1, floats), metrics={})
    writer.flush()
    assert writer.interval_seconds == pytest.approx(0.5, rel=0.01)


def test_a_copy_stays_when_what_trains_goes_on() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    copied: dict[str, Any] = host_copy({"weights": [weight], "lr": 0.5})
    with torch.no_grad():
        weight.add_(1)
    assert copied["lr"] == 0.5
    assert torch.equal(copied["weights"][0], torch.ones(2))
    assert not copied["weights"][0].requires_grad
