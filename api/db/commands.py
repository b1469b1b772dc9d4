"""``pmae db``: looks for faults in the database, and repairs them."""

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
    """Keep ``check`` a command of a group."""


@db.command()
def check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Summarise such points again; nothing else changes.")
    ] = False,
) -> None:
    """Look for faults that no error tells of: safe while the service runs.

    The schema's revision; metrics whose summaries do not agree with their points, which curves do
    not show (a worker of an older version wrote them after a migration); checkpoints of ended runs
    whose files are gone. Exit status 1: there are some that are not repaired.
    """
    settings = command_settings()
    rows: list[tuple[str, str, str]] = []
    left = 0
    with command_database(settings) as engine:
        sessions = make_sessions(engine)
        for wrong in find_wrong_blocks(sessions):
            if repair:
                repair_blocks(sessions, wrong)
            told = f"{wrong.shown:,} of {wrong.points:,} points are shown"
            about = f"{told}: {', '.join(wrong.blocks)}"
            rows.append((wrong.run_id, "repaired" if repair else "wrong summaries", about))
            left += not repair
        if settings.runs_dir.is_dir():
            missing = find_missing_checkpoints(sessions, settings.runs_dir)
            rows += [(each.run_id, "no checkpoint", f"{each.folder} is gone") for each in missing]
            left += len(missing)
        else:
            told = f"checkpoints were not looked at: there is no folder {settings.runs_dir} here"
            explaining.print(told, style="yellow", highlight=False, soft_wrap=True)
    if rows:
        print_table(("run", "fault", "which"), rows, flexible=("which",))
    explaining.print(_summary(left, len(rows), repair=repair), highlight=False, soft_wrap=True)
    if left:
        raise typer.Exit(1)


def _summary(left: int, found: int, *, repair: bool) -> str:
    if not found:
        return "no fault was found"
    if not left:
        return f"{found} faults were found and repaired"
    what = (
        "restore the files from a backup, or delete the checkpoints (`pmae checkpoint delete`)"
        if repair
        else "`pmae db check --repair` repairs summaries"
    )
    return f"{found} faults were found; {what}"
