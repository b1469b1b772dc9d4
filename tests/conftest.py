"""Real databases and a real broker for every test that needs one."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from api.db.migrate import upgrade
from pmae.up import broker
from tests.stack import RunningStack, start_stack
from tests.support.postgres import postgres_server
from tests.support.waiting import wait_until

# Two torch threads beside other work are far slower than one; trainers inherit this.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With PMAE_REQUIRE_ALL=1 a test that could not run here is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("PMAE_REQUIRE_ALL") == "1" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL server."""
    with postgres_server() as server:
        yield server.address


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty, migrated database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.sqlite3'}"
        upgrade(url)
        yield url
        return
    address: str = request.getfixturevalue("postgres")
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = address.replace("postgresql://", "postgresql+psycopg://").replace("/postgres", f"/{name}")
    upgrade(url)
    yield url
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The real service: broker, API, worker and dashboard, shared by the tests that use it."""
    running = start_stack(tmp_path_factory.mktemp("stack"))
    yield running
    running.stop()


@contextmanager
def running_broker() -> Iterator[str]:
    """A real Redis-protocol broker, empty; its address."""
    folder = Path(tempfile.mkdtemp(prefix="pmae-"))
    socket = folder / "broker.sock"
    process = subprocess.Popen(broker.command(socket), stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: broker.answers(socket), "the broker's start")
        yield broker.url(socket)
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def broker_url() -> Iterator[str]:
    """The address of a broker of the test's own."""
    with running_broker() as url:
        yield url
