"""The table that the faults' tests print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pytest

_PROPERTY = "fault"
_HEAD = ("fault", "database", "starts", "trains again", "goal", "weights", "metrics")


@dataclass(frozen=True)
class Row:
    """One fault, survived.

    Attributes:
        fault: what happened.
        database: on which.
        starts: how often the run was started.
        seconds: from the fault until it trained again; None: it was not interrupted.
        goal: for the seconds.
    """

    fault: str
    database: str
    starts: int
    seconds: float | None
    goal: float | None


class Table:
    """Where a test writes its row: with its result, which comes from whichever process ran it.

    A fault that was not survived fails its test and has no row.
    """

    def __init__(self, record_property: Callable[[str, object], None]) -> None:
        self._record_property = record_property

    def add(self, row: Row) -> None:
        """Write a row."""
        self._record_property(_PROPERTY, asdict(row))


def rows_of(reports: Iterable[pytest.TestReport]) -> list[Row]:
    """What tests wrote."""
    found: list[dict[str, Any]] = [
        value
        for report in reports
        for name, value in report.user_properties
        if name == _PROPERTY and isinstance(value, dict)
    ]
    return [Row(**values) for values in found]


def text(rows: Sequence[Row]) -> str:
    """Columns of equal width."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    seconds = "-" if row.seconds is None else f"{row.seconds:.1f} s"
    goal = "-" if row.goal is None else f"{row.goal:g} s"
    return (row.fault, row.database, str(row.starts), seconds, goal, "equal", "equal")
