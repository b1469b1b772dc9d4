"""``pmae db``: find faults in the database, and repair them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from api.db.check import find_missing_checkpoints, find_wrong_blocks, repair_blocks
from api.db.command_database import command_database, command_settings
from api.db.session import make_sessions
from pmae.cli.output import print_table

db = typer.Typer(
    help="The database of the service that PMAE_HOME, PMAE_DATABASE_HOST or PMAE_DATABASE_URL "
    "names.",
    no_args_is_help=True,
)
explaining = Console(stderr=True)


@db.callback()
def _group() -> None:
    """Make ``db`` a group, although ``check`` is its only command."""


@db.command()
def check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Correct wrong summaries; nothing else changes.")
    ] = False,
) -> None:
    """Find silent faults in the database. Safe while the service runs.

    Checks the schema's revision; metrics whose summaries disagree with their points, so that curves
    do not show all of them (written by an older worker after a migration); and checkpoints of ended
    runs whose files are missing. Exit status 1 if faults remain.
    """
    settings = command_settings()
    rows: list[tuple[str, str, str]] = []
    left = 0
    with command_database(settings) as engine:
        sessions = make_sessions(engine)
        for wrong in find_wrong_blocks(sessions):
            if repair:
                repair_blocks(sessions, wrong)
            shown = f"{wrong.shown:,} of {wrong.points:,} points are shown"
            about = f"{shown}: {', '.join(wrong.blocks)}"
            rows.append((wrong.run_id, "repaired" if repair else "wrong summaries", about))
            left += not repair
        if settings.runs_dir.is_dir():
            missing = find_missing_checkpoints(sessions, settings.runs_dir)
            rows += [(each.run_id, "no checkpoint", f"{each.folder} is gone") for each in missing]
            left += len(missing)
        else:
            note = f"checkpoints were not checked: there is no folder {settings.runs_dir}"
            explaining.print(note, style="yellow", highlight=False, soft_wrap=True)
    if rows:
        print_table(("run", "fault", "which"), rows, flexible=("which",))
    explaining.print(_summary(left, len(rows), repair=repair), highlight=False, soft_wrap=True)
    if left:
        raise typer.Exit(1)


def _summary(left: int, found: int, *, repair: bool) -> str:
    if not found:
        return "no fault found"
    if not left:
        return f"{found} faults found and repaired"
    what = (
        "restore the files from a backup, or delete the checkpoints (`pmae checkpoint delete`)"
        if repair
        else "`pmae db check --repair` repairs summaries"
    )
    return f"{found} faults found; {what}"
