"""Real databases and a real broker for every test that needs one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from pmae.up import broker
from tests.stack import RunningStack, start_stack
from tests.support.databases import Databases
from tests.support.postgres import postgres_server
from tests.support.selection import longest_first, mark_processes
from tests.support.waiting import wait_until

# Two torch threads beside other work are far slower than one; trainers inherit this.
os.environ["OMP_NUM_THREADS"] = "1"
# No test times anything: a loaded machine would fail those that draw their examples.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With PMAE_REQUIRE_ALL=1 a test that could not run here is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("PMAE_REQUIRE_ALL") == "1" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    mark_processes(items)
    yield  # those that were not asked for are dropped
    longest_first(items)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL server."""
    with postgres_server() as server:
        yield server.address


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """What makes empty, migrated databases."""
    return Databases(tmp_path_factory.mktemp("databases"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, databases: Databases, tmp_path: Path
) -> Iterator[str]:
    """An empty, migrated database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield databases.sqlite(tmp_path / "test.sqlite3")
        return
    with databases.postgresql(request.getfixturevalue("postgres")) as url:
        yield url


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
