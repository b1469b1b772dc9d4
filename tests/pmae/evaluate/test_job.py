"""A run of the kind ``evaluate`` as its trainer's process: figures, kills, what is missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pmae.runs.checkpoints import newest_valid, read_manifest
from pmae.runs.events import (
    EndEvent,
    ErrorEvent,
    EvaluationEvent,
    Event,
    StartEvent,
    read_events,
)
from pmae.runs.layout import LeaseDir, RunDir
from pmae.settings import StorageSettings
from pmae.spec import EvaluateSpec, resolve
from tests.support.specs import TINY
from tests.support.waiting import wait_until

PARENT = "0123456789ab"
NAME = "step-00000020"
LONG = {"protocol": "linear", "epochs": 10_000, "num_seeds": 100}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a service with a pretraining that has ended, with its linear probe."""
    home = tmp_path_factory.mktemp("trained")
    run = RunDir(StorageSettings(home=home).runs_dir / PARENT)
    run.path.mkdir(parents=True)
    run.spec.write_text(resolve(TINY).model_dump_json())
    process = subprocess.run(
        [sys.executable, "-m", "pmae.train", str(run.path)],
        env={**os.environ, "PMAE_HOME": str(home)},
        check=False,
        timeout=300,
    )
    assert process.returncode == 0
    return home


@pytest.fixture
def parent(trained: Path, storage: StorageSettings) -> RunDir:
    """A copy of it, in this test's own home."""
    shutil.copytree(trained, storage.home)
    return RunDir(storage.runs_dir / PARENT)


def _spec(evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    return {"checkpoint": f"{PARENT}/{NAME}", "evaluations": evaluations}


class Trainer:
    """Starts the process of one evaluating run."""

    def __init__(
        self, storage: StorageSettings, evaluations: list[dict[str, Any]], **fields: Any
    ) -> None:
        self.run = RunDir(storage.runs_dir / "fedcba987654")
        self.run.path.mkdir(parents=True)
        self.write(evaluations, **fields)
        self._environment = {**os.environ, "PMAE_HOME": str(storage.home)}
        self._started: list[subprocess.Popen[bytes]] = []

    def write(self, evaluations: list[dict[str, Any]], **fields: Any) -> None:
        """Ask for something else from the next process on."""
        spec = EvaluateSpec.model_validate(_spec(evaluations) | fields)
        self.run.spec.write_text(spec.model_dump_json())

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pmae.train", str(self.run.path)],
            env=self._environment,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def trainers() -> Iterator[list[Trainer]]:
    made: list[Trainer] = []
    yield made
    for trainer in made:
        trainer.close()


def _events(lease: LeaseDir) -> list[Event]:
    return list(read_events(lease.events)) if lease.events.is_file() else []


def _results(lease: LeaseDir) -> dict[str, EvaluationEvent]:
    found = [event for event in _events(lease) if isinstance(event, EvaluationEvent)]
    assert len({event.key for event in found}) == len(found), "a result stands twice"
    return {event.key: event for event in found}


def _figures(event: EvaluationEvent) -> dict[str, Any]:
    return event.model_dump(exclude={"time"}) | {
        "details": event.details | {"duration_seconds": None}
    }


def test_it_measures_what_the_run_itself_would_have_and_more(
    parent: RunDir, storage: StorageSettings, trainers: list[Trainer]
) -> None:
    folder, _ = newest_valid(parent)
    assert folder is not None
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    probe = {"protocol": "linear", "epochs": 5, "baselines": ["raw_pixels"]}
    trainers.append(trainer := Trainer(storage, [probe, {"protocol": "knn", "k": [3]}]))
    assert trainer.start().wait(timeout=120) == 0
    results = _results(trainer.run.lease(1))
    assert list(results) == ["linear/encoder", "linear/raw_pixels", "knn/encoder"]
    for key, of_parent in _results(parent.lease(1)).items():
        assert _figures(results[key]) == _figures(of_parent)
    weights = read_manifest(folder).files["model.safetensors"].sha256
    assert {event.details["checkpoint_sha256"] for event in results.values()} == {weights}
    assert isinstance(_events(trainer.run.lease(1))[-1], EndEvent)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_killed_one_takes_over_what_it_had_measured_and_sigterm_gives_it_back(
    parent: RunDir, storage: StorageSettings, trainers: list[Trainer]
) -> None:
    trainers.append(trainer := Trainer(storage, [{"protocol": "knn", "k": [3]}, LONG]))
    process = trainer.start()
    wait_until(lambda: "knn/encoder" in _results(trainer.run.lease(1)), "the first result")
    process.kill()
    process.wait()
    again = trainer.start()
    wait_until(lambda: "knn/encoder" in _results(trainer.run.lease(2)), "the result taken over")
    first, second = (_results(trainer.run.lease(number)) for number in (1, 2))
    assert first == second, "not measured again: its time and duration are the same"
    again.send_signal(signal.SIGTERM)
    assert again.wait(timeout=60) == 75
    assert not any(isinstance(event, EndEvent) for event in _events(trainer.run.lease(2)))

    quick = EvaluateSpec.model_validate(_spec([{"protocol": "knn", "k": [3]}]))
    trainer.run.spec.write_text(quick.model_dump_json())
    assert trainer.start().wait(timeout=120) == 0
    events = _events(trainer.run.lease(3))
    assert isinstance(events[-1], EndEvent)
    assert sum(isinstance(event, StartEvent) for event in events) == 1
    assert _results(trainer.run.lease(3)) == first


def test_the_precision_is_the_one_that_is_asked_for_and_then_stays(
    parent: RunDir, storage: StorageSettings, trainers: list[Trainer]
) -> None:
    probe = {"protocol": "linear", "epochs": 5, "baselines": ["raw_pixels"]}
    both: list[dict[str, Any]] = [probe, {"protocol": "knn", "k": [3]}]
    trainers.append(trainer := Trainer(storage, [probe], precision="bf16"))
    assert trainer.start().wait(timeout=120) == 0
    first = _results(trainer.run.lease(1))
    assert first["linear/encoder"].details["precision"] == "bf16"
    assert "precision" not in first["linear/raw_pixels"].details
    assert _results(parent.lease(1))["linear/encoder"].details["precision"] == "fp32"

    # As if it had begun where bf16 is the default: the next process stays with it.
    trainer.write(both)
    assert trainer.start().wait(timeout=120) == 0
    resumed = _results(trainer.run.lease(2))
    assert resumed["linear/encoder"] == first["linear/encoder"]
    assert resumed["knn/encoder"].details["precision"] == "bf16"

    shutil.rmtree(trainer.run.path)
    trainers.append(whole := Trainer(storage, both, precision="bf16"))
    assert whole.start().wait(timeout=120) == 0
    assert [*map(_figures, _results(whole.run.lease(1)).values())] == [
        *map(_figures, resumed.values())
    ]


@pytest.mark.parametrize("missing", ["checkpoint", "run"])
def test_a_checkpoint_that_is_gone_is_told_in_a_sentence(
    missing: str, parent: RunDir, storage: StorageSettings, trainers: list[Trainer]
) -> None:
    folder = parent.checkpoint(NAME)
    assert folder is not None
    shutil.rmtree(folder if missing == "checkpoint" else parent.path)
    trainers.append(trainer := Trainer(storage, [{"protocol": "knn", "k": [3]}]))
    assert trainer.start().wait(timeout=120) == 1
    (error,) = _events(trainer.run.lease(1))
    assert isinstance(error, ErrorEvent)
    assert error.code == "checkpoint_error"
    assert f"{PARENT}/{NAME} is not there" in error.message
