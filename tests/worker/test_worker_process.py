"""A real worker on a real broker: it or its child dies, it is drained, it takes runs again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.tables import RunEventRow, RunRow, WorkerRow
from api.queue.wake_up import WakeUpSender
from api.settings import ApiSettings
from pmae.presets import get_preset
from pmae.spec import resolve
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

Sessions = sessionmaker[Session]


Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker, always of the same name, as the first process of its group."""
    settings = {
        "PMAE_HOME": str(tmp_path / "home"),
        "PMAE_DATABASE_URL": database_url,
        "PMAE_BROKER_URL": broker_url,
        "PMAE_WORKER_NAME": "w1",
        "PMAE_HEARTBEAT_SECONDS": "0.5",
        "PMAE_LEASE_SECONDS": "600",
        "PMAE_LOG_FORMAT": "json",
        "OMP_NUM_THREADS": "1",
    }
    started: list[subprocess.Popen[bytes]] = []

    def start_one() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "worker"]
        with (tmp_path / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start_one
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@pytest.fixture
def worker(start: Start) -> subprocess.Popen[bytes]:
    return start()


@pytest.fixture
def sender(broker_url: str) -> Iterator[WakeUpSender]:
    with WakeUpSender(ApiSettings(broker_url=broker_url)) as sender:
        yield sender


def _row(sessions: Sessions) -> RunRow:
    with sessions() as session:
        return session.scalars(select(RunRow)).one()


def _trains(sessions: Sessions, lease_number: int) -> bool:
    row = _row(sessions)
    at_work = row.state == "running" and row.progress.get("stage") == "pretrain"
    return at_work and row.lease_number == lease_number


def _ask_to_drain(sessions: Sessions, drain: bool) -> None:
    with sessions.begin() as session:
        session.execute(update(WorkerRow).values(drain_requested=drain))


def _child(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (child,) = (int(child) for child in children)
    return child


@pytest.mark.timeout(600)
def test_a_dead_child_and_a_drain_give_the_run_back(
    sessions: Sessions, worker: subprocess.Popen[bytes], sender: WakeUpSender, tmp_path: Path
) -> None:
    spec = resolve(get_preset("quickstart").spec.model_copy(update={"epochs": 10_000}))
    with sessions.begin() as session:
        run_states.submit(session, spec=spec)
    sender.send("pretrain")
    wait_until(lambda: _trains(sessions, 1), "the first start", seconds=180)

    os.kill(_child(worker), signal.SIGKILL)
    wait_until(lambda: _trains(sessions, 2), "the start after the child's death", seconds=180)
    with sessions() as session:
        told = session.scalars(select(RunEventRow.message).where(RunEventRow.type == "state")).all()
    assert "the process that supervised it died" in told

    _ask_to_drain(sessions, drain=True)
    wait_until(lambda: _row(sessions).state == "queued", "the drain", seconds=60)
    row = _row(sessions)
    assert row.reason == "the worker gave it back; it will be resumed"
    sender.send("pretrain")
    wait_until(lambda: sender.waiting_messages("pretrain") == 0, "the message's arrival")
    assert _row(sessions).state == "queued"

    _ask_to_drain(sessions, drain=False)

    def woken() -> bool:
        if sender.waiting_messages("pretrain") == 0 and _row(sessions).state == "queued":
            sender.send("pretrain")
        return _trains(sessions, 3)

    wait_until(woken, "the start after the drain", seconds=180)
    with sessions.begin() as session:
        run_states.request_cancel(session, _row(sessions).id, actor="api")
    wait_until(lambda: _row(sessions).state == "cancelled", "the end", seconds=60)
    _check_log(tmp_path / "worker.log", _row(sessions).id)


@pytest.mark.timeout(600)
def test_a_killed_worker_goes_on_when_it_is_started_again(
    sessions: Sessions, start: Start, sender: WakeUpSender, tmp_path: Path
) -> None:
    """Its lease of ten minutes is not waited for, nor any wake-up. A second one is refused."""
    spec = resolve(get_preset("quickstart").spec.model_copy(update={"epochs": 10_000}))
    with sessions.begin() as session:
        run_id = run_states.submit(session, spec=spec).id
    worker = start()
    sender.send("pretrain")
    wait_until(lambda: _trains(sessions, 1), "the first start", seconds=180)

    second = start()
    assert second.wait(timeout=120) == 1
    assert "PMAE_WORKER_NAME=w1-b" in (tmp_path / "worker.log").read_text()
    assert _trains(sessions, 1)

    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(timeout=60)
    start()
    wait_until(lambda: _trains(sessions, 2), "the start after the crash", seconds=180)
    with sessions() as session:
        statement = select(RunEventRow.actor, RunEventRow.message).order_by(RunEventRow.id)
        told = session.execute(statement.where(RunEventRow.type == "state")).all()
    assert [tuple(row) for row in told] == [
        ("api", "submitted"),
        ("w1", "started by w1"),
        ("w1", "its worker died and was restarted"),
        ("w1", "started by w1"),
    ]
    with sessions.begin() as session:
        run_states.request_cancel(session, run_id, actor="api")
    wait_until(lambda: _row(sessions).state == "cancelled", "the end", seconds=60)
    assert (tmp_path / "home/artifacts/workers/w1.lock").exists()


def _check_log(log: Path, run_id: str) -> None:
    """Each line is an object, Celery's own ones too, and says which lease it is about."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert any(line["logger"].startswith("celery") for line in lines)
    about = [line for line in lines if line.get("run_id") == run_id]
    started = [line["lease"] for line in about if line["message"].startswith("trainer")]
    assert started == [1, 2, 3]
    (given_back,) = (line for line in about if line["message"].startswith("queued"))
    assert given_back["lease"] == 2
    assert given_back["epoch"] >= 0
    assert any("ForkPoolWorker" in line["message"] for line in lines), "the pool's own words, too"
