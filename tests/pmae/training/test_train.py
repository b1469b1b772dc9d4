"""The trainer as its users start it: a process that is killed, resumed, stopped and supervised."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from pmae.inference.checkpoint import LoadedCheckpoint
from pmae.inference.reconstruct import PANELS
from pmae.runs.checkpoints import newest_valid, read_manifest
from pmae.runs.events import (
    EndEvent,
    ErrorEvent,
    EvaluationEvent,
    Event,
    MetricsEvent,
    StartEvent,
    WarningEvent,
    read_events,
)
from pmae.runs.layout import LeaseDir, RunDir
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, MaskingSpec
from tests.pmae.training.conftest import TrainHere
from tests.support.unprivileged import close, open_again, unprivileged, write_birds

# Lightning uses what torch deprecates, and advises on what is on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
]
Start = Callable[..., subprocess.Popen[bytes]]
FINAL = "step-00000024"


@pytest.fixture
def start(storage: StorageSettings) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def popen(run: RunDir, *options: str) -> subprocess.Popen[bytes]:
        with (run.path / "stderr").open("ab") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "pmae.train", str(run.path), *options],
                env={**os.environ, "PMAE_HOME": str(storage.home), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        process.wait()
        if process.stdin and not process.stdin.closed:
            process.stdin.close()


def _new_run(folder: Path, spec: ExperimentSpec) -> RunDir:
    folder.mkdir()
    run = RunDir(folder)
    run.spec.write_text(spec.model_dump_json())
    return run


def _events(lease: LeaseDir) -> list[Event]:
    return list(read_events(lease.events))


def _metrics(events: list[Event]) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], float] = {}
    for event in events:
        if isinstance(event, MetricsEvent):
            for name, value in event.values.items():
                assert (name, event.step) not in found, "a point stands twice"
                found[name, event.step] = value
    return found


def _outcome(run: RunDir) -> tuple[str, dict[tuple[str, int], float], dict[str, float]]:
    """The final weights' sha256, every metric and every evaluation of a finished run."""
    lease = run.leases()[-1]
    events = _events(lease)
    assert isinstance(events[-1], EndEvent)
    folder, _ = newest_valid(run)
    assert folder is not None
    assert folder.name == FINAL
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    tops = {event.key: event.top1 for event in events if isinstance(event, EvaluationEvent)}
    return weights, _metrics(events), tops


def _wait_for_step(lease: LeaseDir, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if lease.latest.is_dir() and any(
            folder.name >= f"step-{step:08d}" for folder in lease.latest.iterdir()
        ):
            return
        assert process.poll() is None, "the trainer ended early"
        time.sleep(0.002)
    pytest.fail(f"step {step} was not reached")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pmae", "mae"])
def test_killed_three_times_it_ends_with_the_same_bits(
    method: str, tmp_path: Path, tiny_spec: ExperimentSpec, start: Start
) -> None:
    changes: dict[str, Any] = {"method": method}
    if method == "mae":
        changes |= {"basis": None, "masking": MaskingSpec(ratio=0.75, scope="image")}
    spec = tiny_spec.model_copy(update=changes)
    undisturbed = _new_run(tmp_path / "undisturbed", spec)
    assert start(undisturbed).wait(timeout=120) == 0
    killed = _new_run(tmp_path / "killed", spec)
    for number, step in enumerate((3, 9, 17), start=1):
        process = start(killed)
        _wait_for_step(killed.lease(number), step, process)
        process.kill()
        process.wait()
    assert start(killed).wait(timeout=120) == 0
    assert _outcome(killed) == _outcome(undisturbed)
    starts = [e for e in _events(killed.leases()[-1]) if isinstance(e, StartEvent)]
    assert starts[-1].resumed_step > 0
    points = _metrics(_events(killed.leases()[-1]))
    assert {step for name, step in points if name == "loss"} == set(range(1, 25))
    assert {step for name, step in points if name == "val_loss"} == {6, 12, 18, 24}


def test_sigterm_checkpoints_and_leaves_with_75(
    tmp_path: Path, tiny_spec: ExperimentSpec, start: Start
) -> None:
    run = _new_run(tmp_path / "run", tiny_spec.model_copy(update={"epochs": 400}))
    process = start(run)
    _wait_for_step(run.lease(1), 5, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    folder, skipped = newest_valid(run)
    assert folder is not None
    assert skipped == []
    last = max(step for _, step in _metrics(_events(run.lease(1))))
    assert read_manifest(folder).step == last


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_without_its_supervisor_it_stops_at_once(
    how: str, tmp_path: Path, tiny_spec: ExperimentSpec, start: Start
) -> None:
    run = _new_run(tmp_path / "run", tiny_spec.model_copy(update={"epochs": 4000}))
    silence_seconds = "8" if how == "silent" else "600"
    process = start(run, "--supervised", "--silence-seconds", silence_seconds)
    assert process.stdin is not None
    if how == "closed":
        _wait_for_step(run.lease(1), 2, process)
        process.stdin.close()
    assert process.wait(timeout=90) == -signal.SIGKILL
    assert not any(isinstance(event, EndEvent) for event in _events(run.lease(1)))


def test_a_broken_checkpoint_is_skipped_and_said_so(
    tmp_path: Path, tiny_spec: ExperimentSpec, train_here: TrainHere
) -> None:
    run = _new_run(tmp_path / "run", tiny_spec)
    assert train_here(run) == 0
    before = _outcome(run)
    weights = run.lease(1).checkpoints / FINAL / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    assert train_here(run) == 0
    assert _outcome(run) == before
    warnings = [e.message for e in _events(run.lease(2)) if isinstance(e, WarningEvent)]
    assert any(FINAL in message and "SHA-256" in message for message in warnings)


def test_a_failure_ends_with_an_error_event_for_a_researcher(
    tmp_path: Path, tiny_spec: ExperimentSpec, train_here: TrainHere
) -> None:
    spec = json.loads(tiny_spec.model_dump_json())
    spec["dataset"]["name"] = "folder:nowhere"
    run = RunDir(tmp_path / "missing")
    run.path.mkdir()
    run.spec.write_text(json.dumps(spec))
    assert train_here(run) == 1
    last = _events(run.lease(1))[-1]
    assert isinstance(last, ErrorEvent)
    assert last.code == "dataset_missing"
    assert "nowhere" in last.message

    write_birds(tmp_path / "data" / "private")
    close(tmp_path / "data" / "private")
    spec["dataset"]["name"] = "folder:private"
    run.spec.write_text(json.dumps(spec))
    done = subprocess.run(
        unprivileged([sys.executable, "-m", "pmae.train", str(run.path)]),
        env={**os.environ, "PMAE_DATA_ROOT": str(tmp_path / "data")},
        check=False,
        timeout=120,
    )
    open_again(tmp_path / "data")
    assert done.returncode == 1
    last = _events(run.lease(2))[-1]
    assert isinstance(last, ErrorEvent)
    assert last.code == "dataset_unreadable"
    assert f"private cannot be read by user {os.geteuid()}" in last.message
    assert "chmod" in last.message

    spec["dataset"]["name"], spec["optimizer"]["base_lr"] = "digits", 10.0
    spec["batch_size"], spec["epochs"], spec["optimizer"]["betas"] = 64, 200, [0.0, 0.0]
    spec["augmentation"]["crop_scale"] = [0.01, 0.02]
    spec["dataset"]["std_floor"] = 1e-30
    diverging = RunDir(tmp_path / "diverging")
    diverging.path.mkdir()
    diverging.spec.write_text(json.dumps(spec))
    assert train_here(diverging) == 1
    last = _events(diverging.lease(1))[-1]
    assert isinstance(last, ErrorEvent)
    assert last.code == "non_finite_loss"
    assert "step " in last.message


def test_a_checkpoint_reconstructs_its_images(
    tmp_path: Path, tiny_spec: ExperimentSpec, train_here: TrainHere, storage: StorageSettings
) -> None:
    run = _new_run(tmp_path / "run", tiny_spec)
    assert train_here(run) == 0
    folder, _ = newest_valid(run)
    assert folder is not None
    assert {name.split(".")[0] for name in load_file(folder / "model.safetensors")} == {
        "model",
        "probe",
        "pixel_mean",
        "pixel_std",
    }
    loaded = LoadedCheckpoint.load(folder, storage)
    result = loaded.reconstruct(split="val", indices=[0, 3], masking=None, seed=5)
    again = loaded.reconstruct(split="val", indices=[0, 3], masking=None, seed=5)
    other = loaded.reconstruct(
        split="val", indices=[0, 3], masking=MaskingSpec(ratio=0.6, scope="image"), seed=5
    )
    assert tuple(result.panels) == PANELS
    for name, images in result.panels.items():
        assert images.shape == (2, 8, 8, 3)
        assert (images == again.panels[name]).all()
    assert 0 < result.num_masked < result.num_total == 64
    assert abs(result.masked_share - 0.2) < 0.1
    assert other.masked_share > 0.4
    assert (other.panels["visible"] != result.panels["visible"]).any()
