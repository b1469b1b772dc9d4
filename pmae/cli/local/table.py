"""``pmae table``: the paper's table beside the results of local runs."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pmae.errors import DataError
from pmae.report.collect import read_runs
from pmae.report.table import (
    as_csv,
    as_json,
    as_latex,
    as_text,
    best_epoch_rows,
    measured_rows,
    published_rows,
)


class Format(StrEnum):
    """Output format of the table."""

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


def table(
    folder: Annotated[Path, typer.Argument(help="Folder of runs, at any depth.")],
    output_format: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TEXT,
    measured_only: Annotated[
        bool, typer.Option("--measured-only", help="Leave the published figures out.")
    ] = False,
) -> None:
    """Print the paper's table: its published results, then the results of local runs.

    A third part scores the same runs as the published script does: by the probe's best epoch.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; expected a folder of runs")
    runs = list(read_runs(folder))
    measured = [*measured_rows(runs), *best_epoch_rows(runs)]
    rows = [*([] if measured_only else published_rows()), *measured]
    sys.stdout.write(_WRITERS[output_format](rows))
