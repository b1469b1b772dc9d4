"""How commands print: for people on a terminal, for other programs in a pipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """The API's answer as one JSON document."""
    if isinstance(value, BaseModel):
        typer.echo(value.model_dump_json(indent=2))
    else:
        typer.echo(json.dumps([item.model_dump(mode="json") for item in value], indent=2))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, lines: bool = False
) -> None:
    """A table on a terminal; in a pipe a line a row with tabs between, whole and without colours.

    Args:
        columns: their names, the first line of a pipe's.
        rows: a cell for each column.
        lines: draw lines between the rows.
    """
    console = Console()
    if not console.is_terminal:
        for row in (columns, *rows):
            typer.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    table = Table(show_lines=lines)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def print_facts(facts: Sequence[tuple[str, str | None]], *, to_stderr: bool = False) -> None:
    """Names and values, one a line; those without a value are left out."""
    told = [(name, value) for name, value in facts if value]
    width = max(len(name) for name, _ in told)
    for name, value in told:
        typer.echo(f"{name:<{width}}  {value}", err=to_stderr)


def share(value: float | None) -> str:
    """A share as a percentage; nothing if there is none."""
    return "" if value is None else f"{value:.1%}"


def moment(at: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def size(count: int) -> str:
    """Bytes, for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
