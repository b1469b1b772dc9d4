"""Measure how long migrations hold their locks, and the duration of a backup and a restore.

    python -m benchmarks.upgrade                      # 1,000 runs, 1 million points
    python -m benchmarks.upgrade --points 10000000 --rounds 1

The database is a PostgreSQL with durable writes, filled at the first schema. Each migration is
measured by itself, and all of them in one transaction, as `python -m api.db.migrate` runs them: the
tables that it changes are locked until it commits. docs/upgrade.md has the medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from api.db.migrate import upgrade
from api.db.revision import revisions
from tests.support.commands import PMAE, installed_metadata
from tests.support.postgres import PostgresServer

_RUNS = """
INSERT INTO runs (id, kind, name, method, dataset, spec, tags, state, priority, attempt,
    max_attempts, lease_number, cancel_requested, created_at, queued_at, recorded_offset, progress,
    last_metrics, environment)
SELECT lpad(to_hex(i), 12, '0'), 'pretrain', 'run ' || i, 'pmae', 'digits',
    json_build_object('epochs', 800, 'notes', repeat('x', 2000)), '[]', 'succeeded', 0, 1, 5, 1,
    false, 1e9 + i, 1e9 + i, 0, '{}', '{"loss": 0.2}', '{}'
FROM generate_series(1, %(runs)s) AS i
"""
_POINTS = """
INSERT INTO metrics (run_number, name, step, epoch, time, value)
SELECT run, 'loss', step, step / 100.0, 1e9 + step, 1.0 / step + (step * 7919 %% 10007) / 50000.0
FROM generate_series(1, %(runs)s) AS run, generate_series(1, %(steps)s) AS step
"""
_CHECKPOINTS = """
INSERT INTO checkpoints (id, run_number, name, kind, lease_number, step, epoch, created_at, files)
SELECT lpad(to_hex(run), 12, '0') || '-' || step, run, 'step-' || step, 'kept', 1, step, 1, 1e9,
    '{"model.safetensors": {"sha256": "0", "size": 1}}'
FROM generate_series(1, %(runs)s) AS run, generate_series(1, 8) AS step
"""
_EVENTS = """
INSERT INTO run_events (run_number, key, at, type, actor, message, data)
SELECT run, 'event ' || n, 1e9, 'stage', 'worker', 'entered the stage pretrain', '{}'
FROM generate_series(1, %(runs)s) AS run, generate_series(1, 30) AS n
"""


class Databases:
    """Copies of one filled database on a server."""

    def __init__(self, server: PostgresServer, runs: int, points: int) -> None:
        self._server = server
        self._create("filled")
        upgrade(self.url("filled"), revisions()[0])
        values = {"runs": runs, "steps": points // runs}
        with psycopg.connect(self._address("filled")) as connection:
            for statement in (_RUNS, _POINTS, _CHECKPOINTS, _EVENTS):
                connection.execute(statement, values)
        with psycopg.connect(self._address("filled"), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")

    @contextmanager
    def copy(self) -> Iterator[str]:
        """Make a fresh copy, at the first schema, and yield its URL."""
        self._create("copied", "TEMPLATE filled")
        with psycopg.connect(self._address("copied"), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        yield self.url("copied")
        self._execute("DROP DATABASE copied WITH (FORCE)")

    @contextmanager
    def empty(self) -> Iterator[str]:
        """Make a database without tables, and yield its URL."""
        self._create("empty")
        yield self.url("empty")
        self._execute("DROP DATABASE empty WITH (FORCE)")

    def url(self, name: str) -> str:
        """The SQLAlchemy URL of a database."""
        return self._address(name).replace("postgresql://", "postgresql+psycopg://")

    def _create(self, name: str, options: str = "") -> None:
        self._execute(f"CREATE DATABASE {name} {options}")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._server.address, autocommit=True) as connection:
            connection.execute(statement)

    def _address(self, name: str) -> str:
        return self._server.address.removesuffix("/postgres") + f"/{name}"


def migrations(databases: Databases, rounds: int) -> dict[str, float]:
    """Measure the median seconds of each migration by revision, and of all in one transaction."""
    first, *later = revisions()
    taken: dict[str, list[float]] = {revision: [] for revision in later}
    together: list[float] = []
    for _ in range(rounds):
        with databases.copy() as url:
            for revision in later:
                taken[revision].append(_seconds_of_upgrade(url, revision))
        with databases.copy() as url:
            together.append(_seconds_of_upgrade(url, "head"))
    medians = {revision: statistics.median(times) for revision, times in taken.items()}
    return medians | {f"{first} to {later[-1]}": statistics.median(together)}


def _seconds_of_upgrade(url: str, revision: str) -> float:
    began = time.perf_counter()
    upgrade(url, revision)
    return time.perf_counter() - began


def backups(databases: Databases, folder: Path) -> dict[str, float]:
    """Measure seconds of both commands without artifacts, the dump's MB, and peak memory in MB."""
    environment = {**os.environ, **installed_metadata(folder / "site")}
    generations = folder / "backups"
    generations.mkdir()
    found: dict[str, float] = {}
    with databases.copy() as url:
        upgrade(url)
        settings = {"PMAE_DATABASE_URL": url, "PMAE_HOME": str(folder / "home")}
        found["pmae backup"] = _seconds(["backup", str(generations)], environment | settings)
    dumped = sum(path.stat().st_size for path in generations.rglob("*.copy.gz"))
    found["MB dumped"] = dumped / 1e6
    with databases.empty() as url:
        settings = {"PMAE_DATABASE_URL": url, "PMAE_HOME": str(folder / "restored")}
        found["pmae restore"] = _seconds(["restore", str(generations)], environment | settings)
    # The maximum over both commands, in kilobytes.
    found["MB of memory"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    return found


def _seconds(arguments: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([*PMAE, *arguments], env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upgrade")
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    server = PostgresServer(durable=True)
    try:
        server.start()
        databases = Databases(server, options.runs, options.points)
        print(f"{options.runs:,} runs, {options.points:,} points, {sys.platform}", flush=True)
        for name, seconds in migrations(databases, options.rounds).items():
            print(f"{name:<16}{seconds:8.2f} s", flush=True)
        with tempfile.TemporaryDirectory(prefix="pmae-upgrade-") as folder:
            for name, value in backups(databases, Path(folder)).items():
                print(f"{name:<16}{value:8.2f}{' s' if name.startswith('pmae') else ''}")
    finally:
        server.remove()


if __name__ == "__main__":
    main()
