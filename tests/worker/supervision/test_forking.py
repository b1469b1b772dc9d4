"""Trainers forked from a real fork server: they start, end and are killed as new processes are."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pmae.runs.events import EndEvent, read_events
from pmae.runs.layout import RunDir
from pmae.runtime.secret_files import PRIVATE
from pmae.spec import ExperimentSpec
from tests.faults.lab import children
from tests.faults.spec import run_of
from tests.support.waiting import wait_until
from worker.supervision.forking import ForkServer, start_trainer
from worker.supervision.trainers import ForkedTrainer, NewTrainer, Trainer

Fork = Callable[[RunDir], Trainer]
pytestmark = pytest.mark.skipif(not ForkServer.supported(), reason="forks trainers on Linux only")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    """A server that has imported everything."""
    os.environ["OMP_NUM_THREADS"] = "1"
    server = ForkServer()
    server.tend()
    with server.connect() as connection:
        connection.settimeout(120)
        assert connection.recv(100) == b"ready\n"
    yield server
    server.close()


@pytest.fixture
def fork(server: ForkServer) -> Iterator[Fork]:
    started: list[Trainer] = []

    def begin(run: RunDir) -> Trainer:
        arguments = [str(run.path), "--supervised", "--silence-seconds", "600"]
        trainer = start_trainer(arguments, run.path / "log", fork_server=server)
        assert isinstance(trainer, ForkedTrainer)
        started.append(trainer)
        return trainer

    yield begin
    for trainer in started:
        trainer.close()


def _run(folder: Path, epochs: int, devices: int = 1) -> RunDir:
    spec: ExperimentSpec = run_of(epochs).model_copy(update={"devices": devices})
    folder.mkdir()
    run = RunDir(folder)
    run.spec.write_text(spec.model_dump_json())
    return run


def _trains(run: RunDir) -> bool:
    return run.lease(1).latest.is_dir() and any(run.lease(1).latest.iterdir())


def _wait_for_end(trainer: Trainer) -> None:
    wait_until(lambda: trainer.ended, "the trainer's end", seconds=120)


def test_a_forked_trainer_does_what_a_new_one_does(tmp_path: Path, fork: Fork) -> None:
    outcomes = []
    forked = _run(tmp_path / "forked", 4)
    trainer = fork(forked)
    new = _run(tmp_path / "new", 4)
    other = start_trainer([str(new.path)], new.path / "log", fork_server=None)
    assert isinstance(other, NewTrainer)
    try:
        for run, process in ((forked, trainer), (new, other)):
            _wait_for_end(process)
            assert process.exit_status == 0, (run.path / "log").read_text()
            events = list(read_events(run.lease(1).events))
            assert isinstance(events[-1], EndEvent)
            weights = run.lease(1).checkpoints / "step-00000024" / "model.safetensors"
            outcomes.append(weights.read_bytes())
    finally:
        other.close()
    assert outcomes[0] == outcomes[1]


def test_it_has_a_session_of_its_own_and_tells_how_it_ended(tmp_path: Path, fork: Fork) -> None:
    trainer = fork(_run(tmp_path / "run", 4000))
    run = RunDir(tmp_path / "run")
    wait_until(lambda: _trains(run), "training", seconds=120)
    assert os.getsid(trainer.pid) == trainer.pid
    assert not trainer.ended
    trainer.terminate()
    _wait_for_end(trainer)
    assert trainer.exit_status == 75

    again = fork(run)
    wait_until(lambda: "resumed" in (run.path / "log").read_text(), "the resume", seconds=120)
    os.kill(again.pid, signal.SIGKILL)
    _wait_for_end(again)
    assert again.exit_status == -signal.SIGKILL


def test_a_stop_in_its_first_moments_is_heeded(tmp_path: Path, fork: Fork) -> None:
    """As after a cancel that came while the supervisor waited for the trainer's process id."""
    for number in range(20):
        run = _run(tmp_path / str(number), 4000)
        trainer = fork(run)
        trainer.terminate()
        _wait_for_end(trainer)
        assert trainer.exit_status == 75, (run.path / "log").read_text()


def test_it_can_be_killed_in_its_first_moments(tmp_path: Path, fork: Fork) -> None:
    for number in range(20):
        trainer = fork(_run(tmp_path / str(number), 4000))
        trainer.kill()
        _wait_for_end(trainer)
        assert trainer.exit_status == -signal.SIGKILL


def test_it_ends_with_its_supervisors_pipe(tmp_path: Path, fork: Fork) -> None:
    trainer = fork(_run(tmp_path / "run", 4000))
    assert isinstance(trainer, ForkedTrainer)
    wait_until(lambda: _trains(RunDir(tmp_path / "run")), "training", seconds=120)
    pipe = trainer._pipe
    os.dup2(os.open(os.devnull, os.O_WRONLY), pipe._writing_end)
    _wait_for_end(trainer)
    assert trainer.exit_status == -signal.SIGKILL
    assert "the supervisor is gone" in (tmp_path / "run" / "log").read_text()


def test_a_bad_run_ends_with_its_own_status(tmp_path: Path, fork: Fork) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    trainer = fork(RunDir(folder))
    _wait_for_end(trainer)
    assert trainer.exit_status == 1
    assert "spec.json cannot be read" in (folder / "log").read_text()


@pytest.mark.timeout(300)
def test_a_trainer_outlives_the_server_which_is_started_again(tmp_path: Path) -> None:
    server = ForkServer()
    server.tend()
    run = _run(tmp_path / "run", 4000)
    arguments = [str(run.path), "--supervised", "--silence-seconds", "600"]
    connection = server.connect()
    with connection.dup() as waiting:
        waiting.settimeout(120)
        while not waiting.recv(1).endswith(b"\n"):
            pass
    trainer = start_trainer(arguments, run.path / "log", fork_server=server)
    assert isinstance(trainer, ForkedTrainer)
    wait_until(lambda: _trains(run), "training", seconds=120)
    assert server._process is not None
    server._process.kill()
    server._process.wait()
    assert not trainer.ended
    trainer.terminate()
    _wait_for_end(trainer)
    assert trainer.exit_status is None
    trainer.close()

    # Asked while no server is there, the next one answers.
    waiting = server.connect()
    server.tend()
    waiting.settimeout(120)
    assert waiting.recv(100) == b"ready\n"
    waiting.close()
    connection.close()
    server.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("forked", [True, False], ids=["forked", "new"])
def test_trainers_learn_no_secret(
    forked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do the server that they are forked from, and the processes that share their batches."""
    for name in PRIVATE:
        monkeypatch.setenv(name, "geheim")
    monkeypatch.setenv("PMAE_DATA_WORKERS", "0")
    server = ForkServer() if forked else None
    if server is not None:
        server.tend()
        with server.connect() as connection:
            connection.settimeout(120)
            assert connection.recv(100) == b"ready\n"
    run = _run(tmp_path / "run", 4000, devices=2)
    trainer = start_trainer([str(run.path)], run.path / "log", fork_server=server)
    try:
        assert isinstance(trainer, ForkedTrainer if forked else NewTrainer)
        wait_until(lambda: _trains(run), "training", seconds=120)
        (rank,) = children(trainer.pid)
        others = [] if server is None or server._process is None else [server._process.pid]
        for pid in (trainer.pid, rank, *others):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"geheim" not in environment
        # Its title has taken the place of a forked trainer's environment, but not of its helper's.
        assert b"PMAE_DATA_WORKERS=0" in Path(f"/proc/{rank}/environ").read_bytes()
    finally:
        trainer.close()
        if server is not None:
            server.close()
