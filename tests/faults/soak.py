"""Many runs, three workers, and something that breaks all the time.

    python -m tests.faults.soak --runs 200 --minutes 10

Submits the runs, then kills, freezes and restarts at random for so long, or until every run has
ended. Every run has to end once, with the weights, metrics and evaluations of a run that nothing
happened to, and no process may be left behind. Exit status 1 if one did not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select

from api.db.tables import RunRow
from pmae.schema import TERMINAL_STATES
from tests.faults.judge import Outcome, judge, undisturbed
from tests.faults.lab import LEASE_SECONDS, Lab, Process, children
from tests.faults.spec import run_of
from tests.support.postgres import PostgresServer, postgres_server

NUM_WORKERS = 3
EPOCHS = 20
PAUSE_SECONDS = (1.0, 4.0)
"""Between two faults."""
AWAY_SECONDS = 1.0


@dataclass
class Chaos:
    """Breaks something at random.

    Attributes:
        lab: what is broken.
        dice: of the faults and the pauses.
        done: how often what was done.
    """

    lab: Lab
    dice: random.Random
    done: Counter[str] = field(default_factory=Counter)
    _frozen: list[tuple[float, list[int]]] = field(default_factory=list)

    def go_on(self, until: float) -> None:
        """Break things until the clock says ``until``, or every run has ended."""
        faults: list[tuple[str, Callable[[], bool], int]] = [
            ("kill -9 of a trainer", self._kill_a_trainer, 8),
            ("kill -9 of a worker's child", self._kill_a_child, 3),
            ("kill -9 of a worker", self._kill_a_worker, 3),
            ("SIGTERM of a worker (drain)", self._drain_a_worker, 2),
            ("worker frozen past its lease", self._freeze_a_worker, 2),
            ("kill -9 of the API", self._kill_the_api, 1),
            ("kill -9 of the broker, its data lost", self._lose_the_broker, 1),
            ("PostgreSQL crashes and restarts", self._crash_the_database, 1),
        ]
        weights = [weight for _, _, weight in faults]
        while time.monotonic() < until and count_open(self.lab):
            name, fault, _ = self.dice.choices(faults, weights)[0]
            if fault():
                self.done[name] += 1
            time.sleep(self.dice.uniform(*PAUSE_SECONDS))
            self._thaw(time.monotonic())
            for worker in self.lab.workers:
                if not worker.running:
                    worker.start()
        self._thaw(float("inf"))

    def _kill_a_trainer(self) -> bool:
        trainers = self.lab.trainers()
        if trainers:
            _send(self.dice.choice(trainers), signal.SIGKILL)
        return bool(trainers)

    def _kill_a_child(self) -> bool:
        pids = children(self._worker().pid)
        if pids:
            _send(pids[0], signal.SIGKILL)
        return bool(pids)

    def _kill_a_worker(self) -> bool:
        self._worker().end(signal.SIGKILL)
        return True

    def _drain_a_worker(self) -> bool:
        self._worker().end(signal.SIGTERM)
        return True

    def _freeze_a_worker(self) -> bool:
        worker = self._worker()
        pids = [worker.pid, *children(worker.pid)]
        for pid in pids:
            _send(pid, signal.SIGSTOP)
        self._frozen.append((time.monotonic() + LEASE_SECONDS + 3, pids))
        return True

    def _kill_the_api(self) -> bool:
        self.lab.api.end(signal.SIGKILL)
        time.sleep(AWAY_SECONDS)
        self.lab.start_api()
        return True

    def _lose_the_broker(self) -> bool:
        self.lab.broker.end(signal.SIGKILL)
        time.sleep(AWAY_SECONDS)
        self.lab.start_broker()
        return True

    def _crash_the_database(self) -> bool:
        assert self.lab.postgres is not None
        self.lab.postgres.stop(signal.SIGQUIT)
        time.sleep(AWAY_SECONDS)
        self.lab.postgres.start()
        return True

    def _worker(self) -> Process:
        """One that is not frozen."""
        frozen = {pid for _, pids in self._frozen for pid in pids}
        awake = [w for w in self.lab.workers if w.running and w.pid not in frozen]
        return self.dice.choice(awake or self.lab.workers)

    def _thaw(self, now: float) -> None:
        for item in [item for item in self._frozen if item[0] <= now]:
            self._frozen.remove(item)
            for pid in item[1]:
                _send(pid, signal.SIGCONT)


def count_open(lab: Lab) -> int:
    """How many runs have not ended."""
    with lab.sessions() as session:
        waiting = RunRow.state.not_in(TERMINAL_STATES)
        return session.scalar(select(func.count()).select_from(RunRow).where(waiting)) or 0


def main() -> int:
    """Run the soak and print its tables; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long things break")
    parser.add_argument("--seed", type=int, default=0, help="of what breaks when")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pmae-soak-") as folder, postgres_server() as postgres:
        expected = undisturbed(run_of(EPOCHS), Path(folder))
        return _soak(arguments, postgres, expected)


def _soak(arguments: argparse.Namespace, postgres: PostgresServer, expected: Outcome) -> int:
    began = time.monotonic()
    with Lab(postgres, num_workers=NUM_WORKERS) as lab:
        ids = [lab.submit(run_of(EPOCHS)) for _ in range(arguments.runs)]
        _say(f"{len(ids)} runs submitted to {NUM_WORKERS} workers")
        chaos = Chaos(lab, random.Random(arguments.seed))
        chaos.go_on(began + 60 * arguments.minutes)
        _say(f"{count_open(lab)} runs are left when the last thing breaks")
        lab.restart_dead_workers()
        while left := count_open(lab):
            _say(f"{left} runs left")
            time.sleep(10)
        minutes = (time.monotonic() - began) / 60
        wrong, starts = _judge_all(lab, ids, expected)
    for name, count in chaos.done.most_common():
        _say(f"{count:5}  {name}")
    _say(f"{sum(chaos.done.values()):5}  faults in {minutes:.1f} minutes")
    _say("starts of a run: " + ", ".join(f"{n} x {starts[n]}" for n in sorted(starts)))
    _say(f"{len(ids) - len(wrong)} of {len(ids)} runs ended once, with equal weights and metrics")
    for run_id, why in wrong.items():
        _say(f"run {run_id}: {why}")
    return 1 if wrong else 0


def _judge_all(lab: Lab, ids: list[str], expected: Outcome) -> tuple[dict[str, str], Counter[int]]:
    """What is wrong with which run, and how many runs were started how often."""
    wrong: dict[str, str] = {}
    starts: Counter[int] = Counter()
    for run_id in ids:
        starts[lab.row(run_id).lease_number] += 1
        try:
            judge(lab, run_id, expected)
        except AssertionError as error:
            wrong[run_id] = str(error).partition("\n")[0]
    return wrong, starts


def _send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
