"""The faults: each breaks something under a run that trains, and mends what no one else would.

A fault is given a lab and the id of a run that was just submitted. It returns how many seconds went
by from the fault until the run trained again, or None where the fault does not interrupt it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from pmae.runs.layout import RunDir
from pmae.schema import TERMINAL_STATES
from tests.faults.lab import LEASE_SECONDS, Lab, Process, children
from tests.support.waiting import wait_until

KILL, STOP, CONTINUE = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT
AWAY_SECONDS = 2.0
"""How long a service is away before it is started again."""


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Attributes:
        name: what happens.
        inject: does it.
        databases: where it can happen.
        goal_seconds: until it trains again, at the leases that the lab has.
    """

    name: str
    inject: Callable[[Lab, str], float | None]
    databases: tuple[str, ...] = ("sqlite", "postgresql")
    goal_seconds: float | None = None


def nothing(lab: Lab, run_id: str) -> None:
    """An undisturbed run."""
    lab.wait_for_end(run_id)


def trainer_killed(lab: Lab, run_id: str) -> float:
    """Twice: the second time in a process that was itself resumed."""
    lab.wait_for_training(run_id, step=10)
    os.kill(lab.trainer(run_id), KILL)
    again = lab.wait_for_training(run_id, lease=2)
    wait_until(lambda: lab.trains(run_id, lease=2, step=40), "more steps")
    os.kill(lab.trainer(run_id), KILL)
    return max(again, lab.wait_for_training(run_id, lease=3))


def worker_child_killed(lab: Lab, run_id: str) -> float:
    """The process that executes the task; its main process notices."""
    lab.wait_for_training(run_id, step=10)
    (child,) = children(lab.owner(run_id).pid)
    os.kill(child, KILL)
    return lab.wait_for_training(run_id, lease=2)


def worker_killed(lab: Lab, run_id: str) -> float:
    """The whole worker: nobody gives the run back, its lease has to end."""
    lab.wait_for_training(run_id, step=10)
    lab.owner(run_id).end(KILL)
    again = lab.wait_for_training(run_id, lease=2)
    lab.restart_dead_workers()
    return again


def worker_restarted(lab: Lab, run_id: str) -> float:
    """The whole worker, with what it forked; it is started again under its name at once."""
    lab.wait_for_training(run_id, step=10)
    owner = lab.owner(run_id)
    began = time.monotonic()
    os.killpg(owner.pid, KILL)
    owner.end(KILL)
    owner.start()
    lab.wait_for_training(run_id, lease=2)
    return time.monotonic() - began


def worker_drained(lab: Lab, run_id: str) -> float:
    """SIGTERM, as a deployment stops a worker."""
    lab.wait_for_training(run_id, step=10)
    began = time.monotonic()
    lab.owner(run_id).end(signal.SIGTERM)
    lab.wait_for_training(run_id, lease=2)
    again = time.monotonic() - began
    lab.restart_dead_workers()
    return again


def worker_stopped(lab: Lab, run_id: str) -> float:
    """Frozen past its lease, then thawed: a zombie, whose writes must not count."""
    lab.wait_for_training(run_id, step=10)
    owner = lab.owner(run_id)
    frozen = [owner.pid, *children(owner.pid)]
    zombie = lab.trainer(run_id)
    _signal_all(frozen, STOP)
    try:
        again = lab.wait_for_training(run_id, lease=2)
        # Where the machine has a GPU, the zombie has to let it go before it is thawed.
        assert zombie not in lab.trainers(run_id)
    finally:
        _signal_all(frozen, CONTINUE)
    return again


def trainer_stopped(lab: Lab, run_id: str) -> None:
    """Frozen for longer than a lease while its worker lives, then thawed: it just goes on."""
    lab.wait_for_training(run_id, step=10)
    trainer = lab.trainer(run_id)
    os.kill(trainer, STOP)
    time.sleep(1.25 * LEASE_SECONDS)
    os.kill(trainer, CONTINUE)
    assert lab.row(run_id).state not in TERMINAL_STATES


def api_killed(lab: Lab, run_id: str) -> None:
    """Workers do without it."""
    lab.wait_for_training(run_id, step=10)
    lab.api.end(KILL)
    time.sleep(AWAY_SECONDS)
    lab.start_api()


def broker_lost(lab: Lab, run_id: str) -> None:
    """With all its messages, while the run trains; another is submitted while it is away."""
    lab.wait_for_training(run_id, step=10)
    lab.broker.end(KILL)
    other = lab.submit(lab.client.run(run_id).spec)
    time.sleep(AWAY_SECONDS)
    lab.start_broker()
    lab.wait_for_training(other)
    lab.client.cancel(other)
    assert lab.wait_for_end(other).state == "cancelled"


def database_crashed(lab: Lab, run_id: str) -> None:
    """PostgreSQL stops at once, with every connection, and recovers when it starts again."""
    assert lab.postgres is not None
    lab.wait_for_training(run_id, step=10)
    lab.postgres.stop(signal.SIGQUIT)
    time.sleep(AWAY_SECONDS)
    lab.postgres.start()


def database_locked(lab: Lab, run_id: str) -> None:
    """Somebody else writes to the SQLite file for a while, and keeps everyone from it."""
    lab.wait_for_training(run_id, step=10)
    with closing(sqlite3.connect(lab.home / "pmae.sqlite3", timeout=30)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(AWAY_SECONDS)
        connection.rollback()


def messages_doubled(lab: Lab, run_id: str) -> None:
    """Twenty wake-ups for one run start it once."""
    with lab.wake_ups() as sender:
        for _ in range(20):
            sender.send("pretrain")
        lab.wait_for_training(run_id, step=10)
        for _ in range(20):
            sender.send("pretrain")
        lab.wait_for_end(run_id)
        # One that waits longest comes last: both workers have been through all of them.
        wait_until(lambda: sender.waiting_messages("pretrain") == 0, "the messages' arrival")
    assert lab.row(run_id).lease_number == 1


def workers_race(lab: Lab, run_id: str) -> None:
    """Two workers are told of one run at the same moment."""
    lab.wait_for_training(run_id)
    frozen = [child for worker in lab.workers for child in children(worker.pid)]
    other = ""
    _signal_all(frozen, STOP)
    try:
        other = lab.submit(lab.client.run(run_id).spec)
        with lab.wake_ups() as sender:
            for _ in lab.workers:
                sender.send("pretrain")
            time.sleep(0.5)
    finally:
        _signal_all(frozen, CONTINUE)
    lab.wait_for_training(other)
    assert lab.row(other).lease_number == 1
    assert len(lab.trainers(other)) == 1
    lab.client.cancel(other)
    assert lab.wait_for_end(other).state == "cancelled"


def checkpoint_torn(lab: Lab, run_id: str) -> float:
    """The trainer is killed while it writes a checkpoint: what it wrote of it stays behind."""
    again = 0.0
    for lease in (1, 2):
        lab.wait_for_training(run_id, lease=lease)
        folder = RunDir(lab.home / "artifacts" / "runs" / run_id).lease(lease)
        trainer = lab.trainer(run_id)
        while not _kill_in_a_write(trainer, (folder.latest, folder.checkpoints)):
            assert trainer in lab.trainers(run_id), "it never wrote while anybody looked"
        again = max(again, lab.wait_for_training(run_id, lease=lease + 1))
    return again


def _kill_in_a_write(trainer: int, folders: tuple[Path, ...]) -> bool:
    """Stop the trainer at any moment; kill it if a checkpoint is half written then."""
    os.kill(trainer, STOP)
    for folder in folders:
        if folder.is_dir() and any(child.name.startswith(".") for child in folder.iterdir()):
            os.kill(trainer, KILL)
            return True
    os.kill(trainer, CONTINUE)
    time.sleep(0.003)
    return False


def disk_filled(lab: Lab, run_id: str) -> None:
    """The run fails with a reason and keeps its last good checkpoint; then it is resumed."""
    lab.wait_for_training(run_id, step=10)
    (worker,) = lab.workers
    filler = seen_by(worker, lab.home / "artifacts" / "filler")
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65_536))
    row = lab.wait_for_end(run_id)
    assert row.state == "failed"
    assert row.error is not None
    assert row.error["code"] == "disk_full", row.error
    filler.unlink()
    lab.client.resume(run_id)
    lab.wait_for_training(run_id, lease=2)


def seen_by(process: Process, path: Path) -> Path:
    """A path as a process with mounts of its own sees it."""
    return Path(f"/proc/{process.pid}/root{path}")


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


FAULTS = (
    Fault("nothing", nothing),
    Fault("kill -9 of the trainer, twice", trainer_killed, goal_seconds=5),
    Fault("kill -9 of the worker's child", worker_child_killed, goal_seconds=5),
    Fault("kill -9 of the worker", worker_killed, goal_seconds=LEASE_SECONDS + 20),
    Fault("SIGTERM of the worker (drain)", worker_drained),
    Fault("worker frozen past its lease", worker_stopped, goal_seconds=LEASE_SECONDS + 20),
    Fault("trainer frozen past the lease", trainer_stopped),
    Fault("kill -9 of the API", api_killed),
    Fault("kill -9 of the broker, its data lost", broker_lost),
    Fault("PostgreSQL crashes and restarts", database_crashed, ("postgresql",)),
    Fault("SQLite locked by somebody else", database_locked, ("sqlite",)),
    Fault("forty messages for one run", messages_doubled),
    Fault("two workers race for one run", workers_race),
    Fault("kill -9 while a checkpoint is written", checkpoint_torn),
)
