"""Labs that the faults share, what an undisturbed run comes to, and the table at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from pmae.spec import ExperimentSpec
from tests.faults import table
from tests.faults.judge import Outcome, undisturbed
from tests.faults.lab import Lab
from tests.faults.spec import SHORT_RUN
from tests.support.postgres import PostgresServer, postgres_server

LONG = "PMAE_FAULTS_LONG"
"""Set by the long form: every fault on both databases, several times."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = table.rows_of(terminalreporter.stats.get("passed", ()))
    if rows:
        terminalreporter.section("faults")
        terminalreporter.write_line(table.text(rows))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "repetition" in metafunc.fixturenames:
        metafunc.parametrize("repetition", range(3 if os.environ.get(LONG) else 1))


@pytest.fixture
def fault_table(record_property: Callable[[str, object], None]) -> table.Table:
    return table.Table(record_property)


@pytest.fixture(scope="session")
def spec() -> ExperimentSpec:
    return SHORT_RUN


@pytest.fixture(scope="session")
def expected(spec: ExperimentSpec, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the run comes to when nothing happens to it, and no service is there."""
    outcome = undisturbed(spec, tmp_path_factory.mktemp("undisturbed"))
    assert len(outcome.weights) == 2
    assert outcome.evaluations
    return outcome


@pytest.fixture(scope="session")
def crashing_postgres() -> Iterator[PostgresServer]:
    """A server of the faults' own, since one of them is that it crashes."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def lab_on(crashing_postgres: PostgresServer) -> Iterator[Callable[[str], Lab]]:
    """The lab on a database, started for the first fault that wants it."""
    with ExitStack() as running:

        @cache
        def on(database: str) -> Lab:
            postgres = crashing_postgres if database == "postgresql" else None
            return running.enter_context(Lab(postgres))

        yield on
