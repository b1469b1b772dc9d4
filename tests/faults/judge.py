"""What a disturbed run must come to: all that an undisturbed one does, once, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from api.db.tables import CheckpointRow, EvaluationRow, MetricRow, RunEventRow, RunRow
from pmae.runs.events import CheckpointEvent, EvaluationEvent, MetricsEvent, read_events
from pmae.runs.layout import MODEL_FILE, RunDir
from pmae.schema import TERMINAL_STATES
from pmae.spec import ExperimentSpec
from tests.faults.lab import Lab
from tests.support.waiting import wait_until

Points = dict[tuple[str, int], tuple[float, float]]
"""Of each metric at each step: the epoch and the value."""


@dataclass(frozen=True)
class Outcome:
    """All of a run that does not depend on when and where it was computed.

    Attributes:
        weights: SHA-256 of the kept checkpoints' weights, by name.
        points: of the metrics.
        evaluations: what each came to, by key.
    """

    weights: dict[str, str]
    points: Points
    evaluations: dict[str, Any]


def undisturbed(spec: ExperimentSpec, folder: Path) -> Outcome:
    """What the trainer alone, with no service, makes of ``spec``."""
    run = RunDir(folder / "run")
    run.path.mkdir()
    run.spec.write_text(spec.model_dump_json())
    environment = {**os.environ, "PMAE_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "pmae.train", str(run.path)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    weights: dict[str, str] = {}
    points: Points = {}
    evaluations: dict[str, Any] = {}
    for event in read_events(run.lease(1).events):
        match event:
            case CheckpointEvent(kind="kept"):
                weights[event.name] = event.files[MODEL_FILE].sha256
            case MetricsEvent():
                for name, value in event.values.items():
                    assert (name, event.step) not in points, "a point stands twice"
                    points[name, event.step] = (event.epoch, value)
            case EvaluationEvent():
                assert event.key not in evaluations, "an evaluation stands twice"
                evaluations[event.key] = _timeless(event.top1, event.details)
            case _:
                pass
    return Outcome(weights, points, evaluations)


def recorded(lab: Lab, run_id: str) -> Outcome:
    """What the service recorded of a run."""
    with lab.sessions() as session:
        number = session.scalars(select(RunRow.number).where(RunRow.id == run_id)).one()
        checkpoints = session.scalars(
            select(CheckpointRow).where(CheckpointRow.run_number == number)
        ).all()
        metrics = session.scalars(select(MetricRow).where(MetricRow.run_number == number)).all()
        evaluations = session.scalars(
            select(EvaluationRow).where(EvaluationRow.run_number == number)
        ).all()
    return Outcome(
        {row.name: row.files[MODEL_FILE]["sha256"] for row in checkpoints},
        {(row.name, row.step): (row.epoch, row.value) for row in metrics},
        {row.key: _timeless(row.top1, row.details) for row in evaluations},
    )


def judge(lab: Lab, run_id: str, expected: Outcome, *, ends: int = 1) -> RunRow:
    """Check a run that has ended.

    Args:
        lab: where it ran.
        run_id: of it.
        expected: the undisturbed outcome.
        ends: how often it ended; more than once only if somebody resumed it.

    Raises:
        AssertionError: it did not come to the same.
    """
    row = lab.wait_for_end(run_id)
    assert row.state == "succeeded", f"{row.state}: {row.reason}"
    outcome = recorded(lab, run_id)
    assert outcome.weights == expected.weights
    assert outcome.points == expected.points
    assert outcome.evaluations == expected.evaluations
    assert _ends(lab, row) == ends
    wait_until(lambda: not lab.trainers(run_id), "the end of the run's processes")
    return row


def _ends(lab: Lab, row: RunRow) -> int:
    """How often the run came to an end, by its history."""
    with lab.sessions() as session:
        data = session.scalars(
            select(RunEventRow.data).where(
                RunEventRow.run_number == row.number, RunEventRow.type == "state"
            )
        ).all()
    return sum(entry["to"] in TERMINAL_STATES for entry in data)


def _timeless(top1: float, details: dict[str, Any]) -> Any:
    """An evaluation without how long it took."""
    kept = {name: value for name, value in details.items() if "seconds" not in name}
    return json.loads(json.dumps({"top1": top1, **kept}))
