"""Print tables, facts and JSON: for people on a terminal, for programs in a pipe."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import typer
from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Cell = str | datetime | None
_GAP = 2
"""Characters between two columns."""
_MIN_FLEXIBLE = 12
"""Minimum width of a flexible column, in characters."""


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """Print the API's answer as one JSON document."""
    if isinstance(value, BaseModel):
        typer.echo(value.model_dump_json(indent=2))
    else:
        typer.echo(json.dumps([item.model_dump(mode="json") for item in value], indent=2))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    title: str | None = None,
    flexible: Collection[str] = (),
    spare: Sequence[str] = (),
    lines: bool = False,
) -> None:
    """Print a table on a terminal, or tab-separated lines in a pipe.

    In a pipe nothing is shortened or coloured. On a terminal empty columns are left out, and times
    are short and local.

    Args:
        columns: column names; in a pipe the first line.
        rows: one cell per column.
        title: heading, on a terminal only.
        flexible: columns whose cells may wrap on a narrow terminal; ids never wrap.
        spare: columns to leave out if the table is still too wide, the first one first.
        lines: draw lines between the rows.
    """
    console = Console()
    if not console.is_terminal:
        for row in (columns, *rows):
            typer.echo("\t".join(" ".join(_whole(cell).split()) for cell in row))
        return
    cells = {
        column: [_short(row[place]) for row in rows]
        for place, column in enumerate(columns)
        if not rows or any(row[place] for row in rows)
    }
    left_out = []
    for column in spare:
        if _min_width(cells, flexible) <= console.width:
            break
        if cells.pop(column, None) is not None:
            left_out.append(column)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.show_lines = lines
    table.show_edge = False
    for column in cells:
        table.add_column(column, no_wrap=column not in flexible, overflow="fold")
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(escape, row))
    console.print(table)
    if left_out:
        listed = ", ".join(left_out)
        typer.echo(f"pmae: terminal too narrow for: {listed}; --json prints all", err=True)


def _min_width(cells: Mapping[str, Sequence[str]], flexible: Collection[str]) -> int:
    """Return the minimum width of the table, in characters."""
    total = 0
    for column, of_column in cells.items():
        widest = max(map(len, (column, *of_column)))
        total += _GAP + (min(widest, _MIN_FLEXIBLE) if column in flexible else widest)
    return total


def _whole(cell: Cell) -> str:
    return moment(cell) if isinstance(cell, datetime) else cell or ""


def _short(cell: Cell) -> str:
    """Format a cell like :func:`_whole`, but times as local day and time, or as a past date."""
    if not isinstance(cell, datetime):
        return cell or ""
    local = cell.astimezone()
    this_year = local.year == datetime.now(UTC).astimezone().year
    return f"{local:%d %b %H:%M}" if this_year else f"{local:%Y-%m-%d}"


def print_facts(facts: Sequence[tuple[str, str | None]], *, to_stderr: bool = False) -> None:
    """Print names and values, one pair per line; leave out those without a value."""
    shown = [(name, value) for name, value in facts if value]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        typer.echo(f"{name:<{width}}  {value}", err=to_stderr)


def share(value: float | None) -> str:
    """Format a fraction as a percentage; empty for None."""
    return "" if value is None else f"{value:.1%}"


def moment(at: datetime | None) -> str:
    """Format a time in UTC, to the second; empty for None."""
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def size(count: int) -> str:
    """Format a number of bytes with a decimal unit, to three digits."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
