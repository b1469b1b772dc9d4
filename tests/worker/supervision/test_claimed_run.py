"""Supervision of real processes: how they end, and what is left of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.run_states import Claim
from api.db.tables import RunRow
from tests.support.waiting import wait_until
from worker.settings import WorkerSettings
from worker.supervision.claimed_run import Start, Supervisor
from worker.supervision.trainers import NewTrainer, Trainer

Sessions = sessionmaker[Session]
WRITE_END = """
open(sys.argv[1] + "/lease-0001/events.jsonl", "w").write('{"type":"end","step":1}\\n')
"""
SLEEP = "import time; time.sleep(600)"
GRANDCHILD = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1] + "/pid", "w").write(str(child.pid))
"""
IGNORE_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
READY = "open(sys.argv[1] + '/ready', 'w').close()\n"


def _script(body: str) -> Start:
    """A script in the trainer's place; its first argument is the run's folder."""

    def start(arguments: Sequence[str], log: Path) -> Trainer:
        return NewTrainer([sys.executable, "-c", "import sys, os\n" + body, *arguments], log)

    return start


def _supervise(
    body: str,
    sessions: Sessions,
    claimed: Claim,
    settings: WorkerSettings,
    draining: threading.Event | None = None,
) -> Supervisor:
    return Supervisor(
        claimed,
        sessions=sessions,
        settings=settings,
        draining=(draining or threading.Event()).is_set,
        start=_script(body),
    )


def _row(sessions: Sessions) -> RunRow:
    with sessions() as session:
        return session.scalars(select(RunRow)).one()


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_an_end_event_is_success_whatever_the_exit_status(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    _supervise(WRITE_END + "os._exit(3)", sessions, claimed, settings).run()
    assert _row(sessions).state == "succeeded"


def test_a_killed_trainer_is_tried_again_then_fails(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    body = "os.kill(os.getpid(), 9)"
    _supervise(body, sessions, claimed, settings).run()
    row = _row(sessions)
    assert (row.state, row.attempt) == ("queued", 1)
    assert row.reason is not None
    assert "signal 9 (SIGKILL)" in row.reason
    with sessions.begin() as session:
        again = run_states.claim(session, worker="w1", lease_seconds=60)
    assert again is not None
    _supervise(body, sessions, again, settings).run()
    row = _row(sessions)
    assert row.state == "failed"
    assert row.error is not None
    assert row.error["code"] == "trainer_killed"
    assert "2 times in a row" in row.error["message"]
    assert "memory runs out" in row.error["message"]


def test_a_silent_failure_ends_with_its_log(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    _supervise("raise SystemExit('no such thing')", sessions, claimed, settings).run()
    row = _row(sessions)
    assert row.state == "failed"
    assert row.error is not None
    assert row.error["code"] == "trainer_died"
    assert "no such thing" in row.error["log_tail"]


def test_a_full_disk_is_told_by_the_exit_status(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    _supervise("os._exit(74)", sessions, claimed, settings).run()
    row = _row(sessions)
    assert row.state == "failed"
    assert row.error is not None
    assert row.error["code"] == "disk_full"
    assert "free some space" in row.error["message"]


def test_a_folder_that_cannot_be_written_fails_the_run(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    settings.artifact_dir.parent.mkdir(parents=True)
    settings.artifact_dir.write_text("a file where a folder should be")
    _supervise("", sessions, claimed, settings).run()
    row = _row(sessions)
    assert row.state == "failed"
    assert row.error is not None
    assert row.error["code"] == "storage_error"


PRETRAIN = """
import signal
stage = '{"type": "stage", "stage": "pretrain"}\\n'
open(sys.argv[1] + "/lease-0001/events.jsonl", "w").write(stage)
"""


def test_a_trainer_that_hangs_is_killed_and_resumed(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    settings = settings.model_copy(update={"trainer_silence_seconds": 1.0})
    _supervise(PRETRAIN + "os.kill(os.getpid(), signal.SIGSTOP)", sessions, claimed, settings).run()
    row = _row(sessions)
    assert (row.state, row.attempt) == ("queued", 1)
    assert row.reason is not None
    assert "wrote no event for 1 s" in row.reason


def test_a_long_fit_is_no_hang(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    settings = settings.model_copy(update={"trainer_silence_seconds": 0.3})
    body = PRETRAIN.replace("pretrain", "basis") + "import time; time.sleep(2)\n"
    append = WRITE_END.replace('"w"', '"a"')
    _supervise(body + append, sessions, claimed, settings).run()
    assert _row(sessions).state == "succeeded"


CHECKPOINT_THEN_DIE = """
import json, signal
event = {"type": "checkpoint", "name": "step-00000005", "kind": "latest", "lease": int(sys.argv[3]),
         "step": 5, "epoch": 0.5, "files": {}}
folder = f"{sys.argv[1]}/lease-{int(sys.argv[3]):04d}"
open(folder + "/events.jsonl", "w").write(json.dumps(event) + "\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_gets_further_each_time_is_never_given_up(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    current: Claim | None = claimed
    for lease in range(1, 5):
        assert current is not None
        assert (current.lease_number, current.attempt) == (lease, min(lease, 2))
        _supervise(CHECKPOINT_THEN_DIE, sessions, current, settings).run()
        assert (_row(sessions).state, _row(sessions).attempt) == ("queued", 1)
        with sessions.begin() as session:
            current = run_states.claim(session, worker="w1", lease_seconds=60)


@pytest.mark.parametrize("stubborn", [False, True])
def test_cancel_ends_the_process_and_what_it_started(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings, stubborn: bool
) -> None:
    body = (IGNORE_SIGTERM if stubborn else "") + GRANDCHILD + READY + SLEEP
    supervisor = _supervise(body, sessions, claimed, settings)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    folder = settings.runs_dir / claimed.run_id
    wait_until((folder / "ready").exists, "the trainer's start")
    with sessions.begin() as session:
        run_states.request_cancel(session, claimed.run_id, actor="api")
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert _row(sessions).state == "cancelled"
    grandchild = int((folder / "pid").read_text())
    wait_until(lambda: _gone(grandchild), "the grandchild's end")


def test_a_draining_worker_gives_its_run_back(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    draining = threading.Event()
    body = "import signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(75))\n" + READY + SLEEP
    supervisor = _supervise(body, sessions, claimed, settings, draining)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    wait_until((settings.runs_dir / claimed.run_id / "ready").exists, "the trainer's start")
    draining.set()
    thread.join(timeout=60)
    row = _row(sessions)
    assert (row.state, row.attempt) == ("queued", 0)


def test_a_lease_that_is_not_renewed_lets_the_trainer_stop_by_itself(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    """However often its supervisor comes round: it might be frozen the next moment."""
    body = (
        "from pmae.training.process.signals import watch_supervisor\n"
        "watch_supervisor(0, float(sys.argv[sys.argv.index('--silence-seconds') + 1]))\n" + SLEEP
    )
    rarely = settings.model_copy(update={"lease_seconds": 4.0, "heartbeat_seconds": 600.0})
    thread = threading.Thread(target=_supervise(body, sessions, claimed, rarely).run)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert _row(sessions).state == "queued"
    log = (settings.runs_dir / claimed.run_id / "lease-0001" / "train.log").read_text()
    assert "the supervisor was silent for 2.8 s" in log


def test_a_lost_lease_kills_the_trainer_and_writes_nothing(
    sessions: Sessions, claimed: Claim, settings: WorkerSettings
) -> None:
    body = "open(sys.argv[1] + '/self', 'w').write(str(os.getpid()))\n" + READY + SLEEP
    supervisor = _supervise(body, sessions, claimed, settings)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    folder = settings.runs_dir / claimed.run_id
    wait_until((folder / "ready").exists, "the trainer's start")
    with sessions.begin() as session:
        session.execute(update(RunRow).values(lease_number=2, worker="w2"))
    thread.join(timeout=60)
    assert not thread.is_alive()
    row = _row(sessions)
    assert (row.state, row.lease_number, row.worker) == ("running", 2, "w2")
    assert _gone(int((folder / "self").read_text()))
    assert (folder / "spec.json").is_file()
