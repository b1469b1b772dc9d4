"""The table that the faults' tests print."""

from __future__ import annotations

from dataclasses import dataclass, field

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


@dataclass
class Table:
    """The rows so far. A fault that was not survived fails its test and has none."""

    rows: list[Row] = field(default_factory=list)

    def text(self) -> str:
        """Columns of equal width."""
        lines = [_HEAD, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


def _cells(row: Row) -> tuple[str, ...]:
    seconds = "-" if row.seconds is None else f"{row.seconds:.1f} s"
    goal = "-" if row.goal is None else f"{row.goal:g} s"
    return (row.fault, row.database, str(row.starts), seconds, goal, "equal", "equal")
