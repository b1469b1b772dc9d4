"""Two CPU processes share each batch: the same steps as one, stopped, killed and resumed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pmae.runs.checkpoints import newest_valid
from pmae.runs.events import EndEvent, MetricsEvent, read_events
from pmae.runs.layout import LeaseDir, RunDir
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(900)]
_SECONDS = 300
_SUPERVISED = ("--supervised", "--silence-seconds", str(_SECONDS))


class Trainers:
    """Starts trainers, each in a session of its own, as a worker does."""

    def __init__(self, storage: StorageSettings) -> None:
        self._storage = storage
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, run: RunDir, spec: ExperimentSpec) -> subprocess.Popen[bytes]:
        run.path.mkdir(exist_ok=True)
        run.spec.write_text(spec.model_dump_json())
        with (run.path / "stderr").open("ab") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "pmae.train", str(run.path), *_SUPERVISED],
                env={**os.environ, "PMAE_HOME": str(self._storage.home)},
                stdin=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self.started.append(process)
        return process


@pytest.fixture
def trainers(storage: StorageSettings) -> Iterator[Trainers]:
    made = Trainers(storage)
    yield made
    for process in made.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _group_is_gone(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True
    return False


def _helpers(leader: int) -> list[int]:
    """The processes that the trainer started."""
    children = Path(f"/proc/{leader}/task/{leader}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def _reached(lease: LeaseDir, step: int) -> bool:
    return lease.latest.is_dir() and any(
        folder.name >= f"step-{step:08d}" for folder in lease.latest.iterdir()
    )


def _metrics(run: RunDir) -> dict[tuple[str, int], float]:
    events = list(read_events(run.leases()[-1].events))
    assert isinstance(events[-1], EndEvent)
    points = [
        ((name, event.step), value)
        for event in events
        if isinstance(event, MetricsEvent)
        for name, value in event.values.items()
    ]
    assert len(dict(points)) == len(points), "a point stands twice"
    return dict(points)


def _final(run: RunDir) -> Path:
    folder, _ = newest_valid(run)
    assert folder is not None
    assert folder.name == "step-00000024"
    return folder / "model.safetensors"


def test_two_devices_make_the_steps_of_one_and_resume_exactly(
    tmp_path: Path, tiny_spec: ExperimentSpec, trainers: Trainers
) -> None:
    one = tiny_spec.model_copy(update={"evaluations": ()})
    two = one.model_copy(update={"devices": 2, "accumulate_steps": 2})
    alone, undisturbed, disturbed = (RunDir(tmp_path / name) for name in ("one", "two", "killed"))
    beside = [trainers.start(alone, one), trainers.start(undisturbed, two)]
    # A scheduler ends the whole group with SIGTERM: a checkpoint, status 75, nothing left.
    process = trainers.start(disturbed, two)
    wait_until(lambda: _reached(disturbed.lease(1), 3), "step 3", seconds=_SECONDS)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=_SECONDS) == 75
    wait_until(lambda: _group_is_gone(process.pid), "the helper's end", seconds=30)
    # The trainer is killed: its helper notices.
    process = trainers.start(disturbed, two)
    wait_until(lambda: _reached(disturbed.lease(2), 9), "step 9", seconds=_SECONDS)
    process.kill()
    process.wait()
    wait_until(lambda: _group_is_gone(process.pid), "the helper's end", seconds=30)
    # The helper is killed: the trainer ends by a signal, which means that it is to be resumed.
    process = trainers.start(disturbed, two)
    wait_until(lambda: _reached(disturbed.lease(3), 14), "step 14", seconds=_SECONDS)
    (helper,) = _helpers(process.pid)
    os.kill(helper, signal.SIGKILL)
    assert process.wait(timeout=_SECONDS) == -signal.SIGKILL
    for last in (*beside, trainers.start(disturbed, two)):
        assert last.wait(timeout=_SECONDS) == 0

    assert _metrics(undisturbed) == pytest.approx(_metrics(alone), rel=1e-3, abs=1e-5)
    assert _metrics(disturbed) == _metrics(undisturbed)
    digests = [
        hashlib.sha256(_final(run).read_bytes()).digest() for run in (undisturbed, disturbed)
    ]
    assert digests[0] == digests[1]


def test_a_scheduler_may_end_the_group_while_a_helper_imports(
    tmp_path: Path, tiny_spec: ExperimentSpec, trainers: Trainers
) -> None:
    run = RunDir(tmp_path / "run")
    two = tiny_spec.model_copy(update={"devices": 2, "accumulate_steps": 2, "evaluations": ()})
    process = trainers.start(run, two)

    def helper_started() -> bool:
        for pid in _helpers(process.pid):
            with suppress(OSError):  # one of the short ones that tell of the machine
                if b"distributed_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return True
        return False

    wait_until(helper_started, "the helper's start", seconds=_SECONDS)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=_SECONDS) == 75, (run.path / "stderr").read_text()
    wait_until(lambda: _group_is_gone(process.pid), "the helper's end", seconds=30)
    folder, _ = newest_valid(run)
    assert folder is not None
    assert folder.name == "step-00000001"
