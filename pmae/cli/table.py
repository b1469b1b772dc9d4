"""``pmae table`` and ``pmae presets``."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pmae.cli.output import print_table
from pmae.errors import DataError
from pmae.measured import read_runs
from pmae.presets import PRESETS
from pmae.table import as_csv, as_json, as_latex, as_text, measured_rows, published_rows


class Format(StrEnum):
    """How a table is written."""

    TEXT = "text"
    CSV = "csv"
    LATEX = "latex"
    JSON = "json"


_WRITERS = {
    Format.TEXT: as_text,
    Format.CSV: as_csv,
    Format.LATEX: as_latex,
    Format.JSON: as_json,
}


_FEW = 10
"""Of so few presets each stands apart from the next."""


def table(
    folder: Annotated[Path, typer.Argument(help="Folder of runs, at any depth.")],
    output_format: Annotated[
        Format, typer.Option("--format", help="How to write it.")
    ] = Format.TEXT,
    measured_only: Annotated[
        bool, typer.Option("--measured-only", help="Leave the published figures out.")
    ] = False,
) -> None:
    """Print the paper's table: published figures, and apart from them what runs here measured."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give one that holds runs")
    rows = [*([] if measured_only else published_rows()), *measured_rows(read_runs(folder))]
    sys.stdout.write(_WRITERS[output_format](rows))


def presets(
    words: Annotated[
        list[str] | None, typer.Argument(help="Only those whose names hold all of these words.")
    ] = None,
) -> None:
    """List the presets: what each shows, what it costs and what to expect."""
    chosen = [p for p in PRESETS.values() if all(word in p.name for word in words or ())]
    rows = [(p.name, p.summary, p.cost, p.expect) for p in chosen]
    columns = ("name", "what", "cost", "expect")
    print_table(columns, rows, flexible=columns[1:], lines=len(chosen) < _FEW)
    if len(chosen) == 1:
        typer.echo(chosen[0].command)
