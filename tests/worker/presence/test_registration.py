"""A worker's name: who has it, who is refused, and what its dead predecessor held."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.clock import database_now
from api.db.run_states import Claim
from api.db.tables import RunEventRow, RunRow, WorkerRow
from pmae.settings import default_worker_name
from worker.presence.heartbeat import Presence
from worker.presence.registration import (
    GIVEN_BACK,
    NameLock,
    NameTakenError,
    Registration,
    register,
)
from worker.settings import WorkerSettings

Sessions = sessionmaker[Session]
HERE = socket.gethostname()


def _heard_of(sessions: Sessions, *, host: str, seconds_ago: float) -> None:
    seen = database_now() - seconds_ago
    values = {"name": "w1", "host": host, "pid": os.getpid(), "kinds": ["pretrain"], "devices": 1}
    with sessions.begin() as session:
        session.execute(insert(WorkerRow).values(started_at=seen, last_seen_at=seen, **values))


def _run(sessions: Sessions) -> RunRow:
    with sessions() as session:
        return session.scalars(select(RunRow)).one()


def _register(sessions: Sessions, settings: WorkerSettings) -> Registration:
    return register(sessions, settings, lock_timeout_seconds=0.2)


def test_what_a_dead_worker_of_this_host_held_is_given_back_at_once(
    sessions: Sessions, settings: WorkerSettings, claimed: Claim
) -> None:
    _heard_of(sessions, host=HERE, seconds_ago=0)
    registration = _register(sessions, settings)
    assert registration.given_back == [claimed.run_id]
    row = _run(sessions)
    assert (row.state, row.reason, row.worker) == ("queued", GIVEN_BACK, None)
    with sessions() as session:
        told = session.scalars(select(RunEventRow).order_by(RunEventRow.id)).all()[-1]
        worker = session.scalars(select(WorkerRow)).one()
    assert (told.actor, told.message) == ("w1", GIVEN_BACK)
    assert worker.started_at == registration.identity.started_at
    with sessions.begin() as session:
        again = run_states.claim(session, worker="w1", lease_seconds=60)
    assert again is not None
    assert again.attempt == 2


def test_a_living_worker_of_this_host_keeps_its_name_and_its_run(
    sessions: Sessions, settings: WorkerSettings, claimed: Claim
) -> None:
    living = settings.artifact_dir / "workers" / "w1.lock"
    with _holding(living):
        with pytest.raises(
            NameTakenError, match=r"named w1 is already running.*PMAE_WORKER_NAME=w1-b"
        ):
            _register(sessions, settings)
        assert _run(sessions).state == "running"
    assert _register(sessions, settings).given_back == [claimed.run_id], "killed meanwhile"


def _holding(path: Path) -> subprocess.Popen[bytes]:
    """Another process that has the lock; leaving the block waits for its end."""
    script = (
        "import sys, pathlib; from worker.presence.registration import NameLock;"
        "lock = NameLock.take(pathlib.Path(sys.argv[1]), timeout_seconds=0);"
        "print(lock is not None, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    return process


def test_a_name_that_another_host_uses_is_refused(
    sessions: Sessions, settings: WorkerSettings, claimed: Claim
) -> None:
    _heard_of(sessions, host="elsewhere", seconds_ago=20)
    with pytest.raises(
        NameTakenError, match=r"named w1 sent a heartbeat 2\d s ago, on .* elsewhere"
    ):
        _register(sessions, settings)
    assert _run(sessions).state == "running"
    with sessions() as session:
        assert session.scalars(select(WorkerRow.host)).one() == "elsewhere"


def test_of_another_host_that_is_silent_for_a_lease_the_name_is_taken_over(
    sessions: Sessions, settings: WorkerSettings, claimed: Claim
) -> None:
    _heard_of(sessions, host="elsewhere", seconds_ago=settings.lease_seconds + 1)
    assert _register(sessions, settings).given_back == [], "its lease has to end"
    assert _run(sessions).worker == claimed.worker


def test_without_a_lock_only_time_tells_that_a_worker_is_dead(
    sessions: Sessions, settings: WorkerSettings, claimed: Claim, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    settings = settings.model_copy(update={"artifact_root": tmp_path / "file"})
    _heard_of(sessions, host=HERE, seconds_ago=1)
    with pytest.raises(NameTakenError, match=r"on this host, .* can start 60 s after its last"):
        _register(sessions, settings)
    assert _run(sessions).state == "running"


def test_who_lost_its_name_meanwhile_takes_no_more_runs(
    sessions: Sessions, settings: WorkerSettings
) -> None:
    old = _register(sessions, settings)
    assert old.lock is not None
    told: list[bool] = []
    presence = Presence(
        sessions,
        settings,
        old.identity,
        set_draining=told.append,
        tend=lambda: None,
        refuse=lambda error: pytest.fail(str(error)),
    )
    assert presence._renew() is False
    old.lock.release()
    new = _register(sessions, settings)
    assert presence._renew() is True
    presence.start()
    presence.stop()
    assert told == [True]
    with sessions() as session:
        row = session.scalars(select(WorkerRow)).one()
    assert row.started_at == new.identity.started_at, "left to the one that has the name"


def test_a_lock_is_its_holders_and_its_forks_and_no_programs(tmp_path: Path) -> None:
    path = tmp_path / "workers" / "w1.lock"
    lock = NameLock.take(path, timeout_seconds=0)
    assert lock is not None
    command = ["ls", "-l", "/proc/self/fd/"]
    seen = subprocess.run(command, capture_output=True, text=True, close_fds=False, check=True)
    assert str(path) not in seen.stdout
    assert NameLock.take(path, timeout_seconds=0) is None
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(lock._descriptor)  # as when the process is killed: the file stays
    assert NameLock.take(path, timeout_seconds=0) is None, "its fork lives"
    os.close(writing)
    os.waitpid(pid, 0)
    assert NameLock.take(path, timeout_seconds=0) is not None


def test_who_waits_for_a_lock_gets_that_of_the_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "w1.lock"
    lock = NameLock.take(path, timeout_seconds=0)
    assert lock is not None
    threading.Timer(0.3, lock.release).start()
    waited = NameLock.take(path, timeout_seconds=60)
    assert waited is not None
    assert NameLock.take(path, timeout_seconds=0) is None
    waited.release()
    assert not path.exists()


def test_the_default_name_is_host_and_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert default_worker_name() == f"{HERE}-0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert default_worker_name() == f"{HERE}-2-3"
    assert WorkerSettings().worker_name == f"{HERE}-2-3"
    assert WorkerSettings().slot.devices == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert default_worker_name() == f"{HERE}-0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5e1e5b7f-0a2b-4c3d-8e9f-001122334455")
    assert default_worker_name() == f"{HERE}-GPU-5e1e5b7f"


def test_a_name_that_no_address_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="worker_name"):
        WorkerSettings(worker_name="gpu/1")
