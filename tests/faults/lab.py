"""A lab of real processes that a fault can be put into: database, broker, API and workers.

Everything is started as a deployment starts it; only the leases are short, so that a test need not
wait a minute for one to end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psycopg
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.db.migrate import upgrade
from api.db.session import make_engine, make_sessions
from api.db.tables import RunRow, WorkerRow
from api.queue.wake_up import WakeUpSender
from api.settings import ApiSettings
from pmae.client import PmaeClient
from pmae.schema import TERMINAL_STATES
from pmae.spec import RunSpec
from pmae.up import broker
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until

LEASE_SECONDS = 6.0
HEARTBEAT_SECONDS = 1.0
RECONCILE_SECONDS = 1.0
START_SECONDS = 240.0
"""For a trainer to be at its first step, on a machine that does other things too."""

Wrapper = Callable[[Path, list[str]], list[str]]
"""From the lab's home and a command to one that runs in a special place: another clock, a small
disk."""


def unchanged(_home: Path, command: list[str]) -> list[str]:
    """The command as it is."""
    return command


@dataclass
class Process:
    """One process of the lab."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self.popen is not None
        return self.popen.pid

    def start(self) -> None:
        """Start it, or start it again."""
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        os.kill(self.pid, number)

    def end(self, number: signal.Signals = signal.SIGKILL, seconds: float = 60) -> None:
        """Send a signal and wait until the process is gone."""
        if self.popen is None:
            return
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        self.popen.wait(timeout=seconds)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.popen is not None and self.popen.poll() is None


@dataclass
class Lab:
    """Use it in a ``with`` block.

    Attributes:
        postgres: the server of the run database; None: SQLite.
        num_workers: how many workers there are.
        worker_wrapper: around the workers' command.
        lease_seconds: of each run.
    """

    postgres: PostgresServer | None
    num_workers: int = 2
    worker_wrapper: Wrapper = unchanged
    lease_seconds: float = LEASE_SECONDS

    def __post_init__(self) -> None:
        # The broker's socket lies in it, and the name of a socket has fewer than 108 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pmae-lab-"))
        self.home = self.folder / "home"
        self.home.mkdir()
        self._socket = self.folder / "broker.sock"
        self._database = self._new_database()
        self._port = free_port()
        self.sessions: sessionmaker[Session] = make_sessions(make_engine(self._database))
        self.broker = self._process("broker", broker.command(self._socket))
        self.api = self._process("api", [sys.executable, "-m", "api"])
        self.workers = [self._worker(f"w{i}") for i in range(1, self.num_workers + 1)]
        self.client = PmaeClient(f"http://127.0.0.1:{self._port}")

    def __enter__(self) -> Self:
        with ExitStack() as if_it_fails:
            if_it_fails.push(self.__exit__)
            upgrade(self._database)
            self.start_broker()
            self.start_api()
            for worker in self.workers:
                worker.start()
            self.wait_for_workers()
            if_it_fails.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.client.close()
        for process in (*self.workers, self.api, self.broker):
            process.end()
        engine = self.sessions.kw["bind"]
        engine.dispose()
        wait_until(lambda: not self.left_behind(), "the end of every process")
        if kind is None:
            shutil.rmtree(self.folder)

    # Services

    def _new_database(self) -> str:
        if self.postgres is None:
            return f"sqlite:///{self.home / 'pmae.sqlite3'}"
        name = f"lab_{self.folder.name.rpartition('-')[2].lower()}"
        with psycopg.connect(self.postgres.address, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        address = self.postgres.address.replace("postgresql://", "postgresql+psycopg://")
        return address.removesuffix("/postgres") + f"/{name}"

    def _process(self, name: str, command: list[str], **settings: str) -> Process:
        environment = {
            **os.environ,
            "PMAE_HOME": str(self.home),
            "PMAE_DATABASE_URL": self._database,
            "PMAE_REQUIRE_KEYS": "false",
            "PMAE_BROKER_URL": broker.url(self._socket),
            "PMAE_API_PORT": str(self._port),
            "PMAE_LEASE_SECONDS": str(self.lease_seconds),
            "PMAE_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "PMAE_RECONCILE_SECONDS": str(RECONCILE_SECONDS),
            "PMAE_CANCEL_GRACE_SECONDS": "10",
            "PMAE_MIN_FREE_DISK_BYTES": "0",
            "OMP_NUM_THREADS": "1",
            **settings,
        }
        return Process(name, command, environment, self.folder / f"{name}.log")

    def _worker(self, name: str) -> Process:
        command = [sys.executable, "-m", "worker"]
        return self._process(name, self.worker_wrapper(self.home, command), PMAE_WORKER_NAME=name)

    def start_broker(self) -> None:
        """Start the broker, which is empty, and wait until it answers."""
        self._socket.unlink(missing_ok=True)
        self.broker.start()
        wait_until(lambda: broker.answers(self._socket), "the broker's start")

    def start_api(self) -> None:
        """Start the API, and wait until it answers."""
        self.api.start()

        def answers() -> bool:
            assert self.api.running, self.api.log.read_text()
            try:
                url = f"{self.client.base_url}/api/v1/livez"
                return httpx.get(url, trust_env=False).is_success
            except httpx.TransportError:
                return False

        wait_until(answers, "the API's start", seconds=START_SECONDS)

    def wait_for_workers(self) -> None:
        """Until each worker that runs has said so since it was started."""
        running = {worker.name: worker.pid for worker in self.workers if worker.running}

        def all_there() -> bool:
            with self.sessions() as session:
                rows = session.execute(select(WorkerRow.name, WorkerRow.pid)).all()
            return running.items() <= {row.name: row.pid for row in rows}.items()

        wait_until(all_there, "the workers' start", seconds=START_SECONDS)

    def restart_dead_workers(self) -> None:
        """What a deployment's restart policy does."""
        for worker in self.workers:
            if not worker.running:
                worker.start()
        self.wait_for_workers()

    @contextmanager
    def wake_ups(self) -> Iterator[WakeUpSender]:
        """Send wake-ups as the API does."""
        with WakeUpSender(ApiSettings(broker_url=broker.url(self._socket))) as sender:
            yield sender

    # Runs

    def submit(self, spec: RunSpec) -> str:
        """Queue a run over HTTP; its id."""
        return self.client.submit(spec).id

    def row(self, run_id: str) -> RunRow:
        """The run as SQL has it now."""
        with self.sessions() as session:
            return session.scalars(select(RunRow).where(RunRow.id == run_id)).one()

    def trains(self, run_id: str, *, lease: int = 1, step: int = 1) -> bool:
        """Whether lease ``lease`` or a later one has done ``step`` steps."""
        row = self.row(run_id)
        assert row.state not in ("failed", "cancelled"), f"the run has {row.state}: {row.reason}"
        if row.lease_number < lease or row.state == "queued":
            return False
        progress = row.progress
        at_work = progress.get("stage") == "pretrain" and progress.get("done", 0) >= step
        return at_work or progress.get("stage") == "probe" or row.state == "succeeded"

    def wait_for_training(self, run_id: str, *, lease: int = 1, step: int = 1) -> float:
        """Until it trains; how many seconds that took."""
        began = time.monotonic()
        wait_until(
            lambda: self.trains(run_id, lease=lease, step=step),
            f"step {step} of lease {lease}",
            seconds=START_SECONDS,
        )
        return time.monotonic() - began

    def wait_for_end(self, run_id: str, seconds: float = START_SECONDS) -> RunRow:
        """Until the run has ended."""
        wait_until(
            lambda: self.row(run_id).state in TERMINAL_STATES, "the run's end", seconds=seconds
        )
        return self.row(run_id)

    def owner(self, run_id: str) -> Process:
        """The worker that runs it."""
        name = self.row(run_id).worker
        return next(worker for worker in self.workers if worker.name == name)

    # Processes

    def trainers(self, run_id: str = "") -> list[int]:
        """The process ids of trainers, and of what they started, of one run or of all."""
        runs = self.home / "artifacts" / "runs" / run_id
        return [pid for pid in self.left_behind() if _link(pid, "fd/1").is_relative_to(runs)]

    def trainer(self, run_id: str) -> int:
        """The process id of the run's one trainer."""
        (pid,) = self.trainers(run_id)
        return pid

    def left_behind(self) -> list[int]:
        """The living processes of this lab, whoever started them."""
        return [
            pid
            for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
            if _link(pid, "cwd") == self.folder and _state(pid) != "Z"
        ]


def children(pid: int) -> list[int]:
    """The process ids of a process's children."""
    return [int(child) for child in _read(pid, f"task/{pid}/children").split()]


def _read(pid: int, name: str) -> bytes:
    """A file of /proc; empty if the process is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def _link(pid: int, name: str) -> Path:
    """Where a link of /proc leads; nowhere if the process is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").readlink()
    return Path()


def _state(pid: int) -> str:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return fields[0].decode() if fields else "Z"
