"""Make the state that an older version leaves when it is killed in the middle of a run.

    python -m tests.upgrade.make_fixture COMMIT    # writes tests/upgrade/fixtures/COMMIT/

The commit's own API and worker run from a temporary worktree, on PostgreSQL, with the packages that
are installed here. A run of some seconds is killed with its worker; what is left of it, a plain
dump of the database and the artifacts, is the fixture that ``test_upgrade.py`` goes on with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from pmae.up import broker
from tests.support.ports import free_port
from tests.support.postgres import BINARIES, PostgresServer, postgres_server
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures"
DUMP_FILE, ARTIFACTS_FILE, FACTS_FILE = "dump.sql", "artifacts.tar.gz", "facts.json"
MAX_BYTES = 1_500_000
"""Of one fixture: both together are below 3 MB."""
EPOCHS, STEPS_PER_EPOCH = 300, 6
KILL_AFTER_STEPS = 800
SPEC: dict[str, Any] = {
    "name": "upgraded",
    "dataset": {"name": "digits", "max_train_images": 200, "std_floor": 0.1},
    "model": {
        "embed_dim": 16,
        "depth": 1,
        "num_heads": 2,
        "decoder_embed_dim": 16,
        "decoder_depth": 1,
        "decoder_num_heads": 2,
    },
    "optimizer": {"base_lr": 0.01},
    "augmentation": {"crop_scale": [0.8, 1.0]},
    "epochs": EPOCHS,
    "batch_size": 32,
    "log_every_steps": 1,
    "checkpoint": {"every_epochs": 100, "latest_seconds": 0.5},
    "evaluations": [{"protocol": "linear", "epochs": 5}],
}
"""Of fields that every version knows."""


@dataclass
class OldService:
    """The processes of another commit."""

    source: Path
    folder: Path
    url: str
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """Of each of its processes."""
        return {
            **os.environ,
            "PYTHONPATH": str(self.source),
            "PMAE_HOME": str(self.folder / "home"),
            "PMAE_DATABASE_URL": self.url,
            "PMAE_BROKER_URL": broker.url(self.folder / "broker.sock"),
            "PMAE_API_PORT": str(self.port),
            "PMAE_REQUIRE_KEYS": "false",
            "PMAE_WORKER_NAME": "old-worker",
            "PMAE_MIN_FREE_DISK_BYTES": "0",
            "OMP_NUM_THREADS": "1",
        }

    def migrate(self) -> None:
        """Make the tables."""
        command = [sys.executable, "-P", "-m", "api.db.migrate"]
        subprocess.run(command, env=self.environment, cwd=self.folder, check=True)

    @contextmanager
    def running(self, name: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a process in a session of its own, and kill all of that at the end."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()

    @property
    def api(self) -> list[str]:
        """The command of its API."""
        return [sys.executable, "-P", "-m", "api"]

    @property
    def worker(self) -> list[str]:
        """The command of its worker; the first ones were started by Celery's own."""
        if (self.source / "worker" / "__main__.py").is_file():
            return [sys.executable, "-P", "-m", "worker"]
        options = [
            "--pool",
            "prefork",
            "--concurrency",
            "1",
            "--without-gossip",
            "--without-mingle",
        ]
        return [sys.executable, "-P", "-m", "celery", "-A", "worker.app", "worker", *options]

    def submit(self) -> str:
        """Queue the run once the API answers; its id."""
        address = f"http://127.0.0.1:{self.port}/api/v1"

        def answers() -> bool:
            with suppress(httpx.TransportError):
                return httpx.get(f"{address}/livez", trust_env=False).is_success
            return False

        wait_until(answers, "the start of the API", seconds=120)
        response = httpx.post(f"{address}/runs", json=SPEC, trust_env=False)
        assert response.status_code == 202, response.text
        run_id: str = response.json()["id"]
        return run_id


def make(commit: str) -> Path:
    """Make the fixture of a commit.

    Returns:
        Its folder.
    """
    short = _git("rev-parse", "--short=7", commit)
    with tempfile.TemporaryDirectory(prefix="pmae-old-") as temporary, postgres_server() as server:
        folder = Path(temporary)
        source = folder / "source"
        _git("worktree", "add", "--detach", str(source), commit)
        try:
            (folder / "home").mkdir()
            return _make(OldService(source, folder, _database(server), free_port()), short, server)
        finally:
            _git("worktree", "remove", "--force", str(source))


def _make(old: OldService, commit: str, server: PostgresServer) -> Path:
    old.migrate()
    socket = old.folder / "broker.sock"
    with old.running("broker", broker.command(socket)):
        wait_until(lambda: broker.answers(socket), "the start of the broker")
        with old.running("api", old.api):
            run_id = old.submit()
            with old.running("worker", old.worker):
                step = _wait_for_steps(old, server, run_id)
            time.sleep(5)  # a trainer whose worker was killed ends itself
    target = FIXTURES / commit
    target.mkdir(parents=True, exist_ok=True)
    _dump(server, target / DUMP_FILE)
    with tarfile.open(target / ARTIFACTS_FILE, "w:gz") as archive:
        archive.add(old.folder / "home" / "artifacts", "artifacts", filter=_plain)
    facts = {"commit": commit, "run_id": run_id, "recorded_steps": step}
    facts |= {"total_steps": EPOCHS * STEPS_PER_EPOCH}
    (target / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n")
    size = sum(path.stat().st_size for path in target.iterdir())
    assert size < MAX_BYTES, f"the fixture takes {size:,} bytes"
    return target


def _wait_for_steps(old: OldService, server: PostgresServer, run_id: str) -> int:
    """Until the database has so many points of the run; how many steps it is at then."""
    query = "SELECT coalesce(max(step), 0), max(state) FROM runs LEFT JOIN metrics ON number = "
    query += "run_number WHERE id = %s"
    last = 0

    def done() -> bool:
        nonlocal last
        with psycopg.connect(_address(server)) as connection:
            row = connection.execute(query, (run_id,)).fetchone()
        assert row is not None
        logs = "".join(path.read_text() for path in old.folder.glob("*.log"))
        assert row[1] in ("queued", "running"), f"the run is {row[1]}:\n{logs}"
        last = int(row[0])
        return last >= KILL_AFTER_STEPS

    wait_until(done, f"step {KILL_AFTER_STEPS}", seconds=240)
    return last


def _dump(server: PostgresServer, path: Path) -> None:
    options = ["--no-owner", "--no-privileges", "--file", str(path)]
    subprocess.run([BINARIES / "pg_dump", *options, _address(server)], check=True)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _database(server: PostgresServer) -> str:
    with psycopg.connect(server.address, autocommit=True) as connection:
        connection.execute("CREATE DATABASE pmae")
    return _address(server).replace("postgresql://", "postgresql+psycopg://")


def _address(server: PostgresServer) -> str:
    return server.address.removesuffix("/postgres") + "/pmae"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def main() -> None:
    """Make the fixture of the commit that is named."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade.make_fixture")
    parser.add_argument("commit", help="whose service to run; it must be in this repository")
    sys.stdout.write(f"{make(parser.parse_args().commit)}\n")


if __name__ == "__main__":
    main()
