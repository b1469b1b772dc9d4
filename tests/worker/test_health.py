"""The healthcheck of a worker, with each of three things broken."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.db.migrate import upgrade
from tests.conftest import running_broker
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.waiting import wait_until

PASSWORD = "not-to-be-seen"


def _health(settings: Mapping[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "worker.health"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert PASSWORD not in done.stdout
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1, "one line"
    return done.returncode, done.stdout.strip()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@contextmanager
def _worker(settings: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker"],
            env={**os.environ, **settings},
            stdout=file,
            stderr=file,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(300)
def test_what_breaks_is_seen_and_when_it_is_mended(server: PostgresServer, tmp_path: Path) -> None:
    url = server.address.replace("postgresql://pmae@", f"postgresql+psycopg://pmae:{PASSWORD}@")
    upgrade(url)
    with running_broker() as broker_url:
        settings = {
            "PMAE_HOME": str(tmp_path / "home"),
            "PMAE_DATABASE_URL": url,
            "PMAE_BROKER_URL": broker_url,
            "PMAE_HEARTBEAT_SECONDS": "0.5",
            "PMAE_WORKER_NAME": "w1",
        }
        assert _health(settings) == (1, "the worker w1 has not registered yet")
        with _worker(settings, tmp_path / "worker.log") as worker:
            wait_until(lambda: _health(settings) == (0, "w1 is well"), "the worker's start")

            worker.send_signal(signal.SIGSTOP)
            hangs = "the worker w1 sent no heartbeat for"
            wait_until(lambda: _health(settings)[1].startswith(hangs), "the silence")
            worker.send_signal(signal.SIGCONT)
            wait_until(lambda: _health(settings)[0] == 0, "the next sign of life")

            server.stop()
            status, told = _health(settings)
            assert status == 1
            assert told.startswith("the database is lost: connection failed")
            server.start()
            wait_until(lambda: _health(settings)[0] == 0, "the database's return")
    status, told = _health(settings)
    assert status == 1
    assert "the broker is lost" in told


def test_servers_that_take_a_connection_and_say_nothing_are_lost(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        settings = {
            "PMAE_HOME": str(tmp_path / "home"),
            "PMAE_DATABASE_URL": f"postgresql+psycopg://pmae:{PASSWORD}@127.0.0.1:{port}/pmae",
            "PMAE_BROKER_URL": f"redis://:{PASSWORD}@127.0.0.1:{port}/0",
        }
        status, told = _health(settings)
    assert status == 1
    assert "the database" in told
    assert "the broker" in told


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, broker_url: str) -> None:
    url = f"sqlite:///{tmp_path}/test.sqlite3"
    settings = {"PMAE_DATABASE_URL": url, "PMAE_BROKER_URL": broker_url, "PMAE_WORKER_NAME": "w1"}
    assert _health(settings) == (1, f"the database is lost: {tmp_path}/test.sqlite3 is not there")
    assert not list(tmp_path.iterdir()), "to look makes nothing"


def test_it_loads_no_torch() -> None:
    script = "import sys, worker.health; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
