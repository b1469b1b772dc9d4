"""Which tests `make test-fast` leaves out, and which files begin first."""

from __future__ import annotations

from collections import Counter

import pytest

_FIXTURES = frozenset({"postgres", "broker_url", "stack", "dashboard", "browser", "lab"})
"""Of every conftest.py, those that start a process."""
_IMPORTS = frozenset(
    {
        "ForkServer",
        "PostgresServer",
        "multiprocessing",
        "postgres_server",
        "run_pmae",
        "running_broker",
        "start_stack",
        "subprocess",
    }
)
"""What a file of tests that starts processes by itself has imported."""


def mark_processes(items: list[pytest.Item]) -> None:
    """Add the marker ``process`` to each test that starts one, or whose file does."""
    for item in items:
        if isinstance(item, pytest.Function) and _starts_process(item):
            item.add_marker(pytest.mark.process)


def longest_first(items: list[pytest.Item]) -> None:
    """Put the files of whole services first, each kind of file by its number of tests.

    A test of a service takes as long as dozens of others: a file of such that began last would be
    waited for while the other processors idle.
    """
    tests = Counter(item.path for item in items)
    services = Counter(item.path for item in items if item.get_closest_marker("stack"))
    items.sort(key=lambda item: (services[item.path], tests[item.path]), reverse=True)


def _starts_process(item: pytest.Function) -> bool:
    if any(item.get_closest_marker(name) for name in ("stack", "browser", "compose")):
        return True
    database = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return (
        "postgresql" in database
        or not _FIXTURES.isdisjoint(item.fixturenames)
        or not _IMPORTS.isdisjoint(vars(item.module))
    )
