"""What the API adds to the ``pmae`` command line: work on its database and files."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from api.access.audit import forget_old
from api.command_database import command_database, command_settings
from api.db.session import make_sessions
from api.garbage import Garbage
from api.gc import find_garbage, remove_garbage

gc = typer.Typer()
console = Console()


@gc.command()
def collect_garbage(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go; nothing is changed.")
    ] = False,
    min_age_hours: Annotated[
        float, typer.Option(min=0, help="Leave what was changed since.")
    ] = 24.0,
    keep_bases: Annotated[
        bool,
        typer.Option(
            "--keep-bases",
            help="Leave every basis: trainings outside of the service, which it does not know of, "
            "may need one.",
        ),
    ] = False,
    audit_days: Annotated[
        int,
        typer.Option(
            "--audit-days",
            min=1,
            envvar="PMAE_AUDIT_RETENTION_DAYS",
            help="Entries of the audit trail that are older go too.",
        ),
    ] = 365,
) -> None:
    """Remove files that nothing needs: safe while the service runs, and to run again.

    What is left of deleted runs; folders of runs that the database does not know; half-written
    checkpoints and bases; rolling checkpoints of ended runs that no resume can need; bases that no
    run uses; old entries of the audit trail. Settings are those of the API (PMAE_HOME,
    PMAE_DATABASE_URL, PMAE_ARTIFACT_ROOT).
    """
    settings = command_settings()
    with command_database(settings) as engine:
        sessions = make_sessions(engine)
        found = find_garbage(
            sessions, settings, min_age_seconds=3600 * min_age_hours, keep_bases=keep_bases
        )
        gone = found if dry_run else remove_garbage(sessions, settings, found)
        forgotten = forget_old(sessions, audit_days, dry_run=dry_run)
    console.print(_table(gone, dry_run=dry_run) if gone else "nothing to remove")
    if forgotten:
        verb = "would be" if dry_run else "were"
        console.print(
            f"{forgotten} entries of the audit trail {verb} removed, older than {audit_days} days"
        )
    left = len(found) - len(gone)
    if left:
        console.print(f"{left} could not be removed, or are in use again", style="yellow")


def _table(found: list[Garbage], *, dry_run: bool) -> Table:
    by_kind: dict[str, list[Garbage]] = defaultdict(list)
    for garbage in found:
        by_kind[garbage.kind].append(garbage)
    table = Table("what", title="would be removed" if dry_run else "removed", show_footer=True)
    table.columns[0].footer = "all"
    table.add_column("how many", justify="right", footer=str(len(found)))
    table.add_column("bytes", justify="right", footer=f"{sum(g.size for g in found):,}")
    table.add_column("where", overflow="fold")
    for kind, items in by_kind.items():
        paths = "\n".join(str(garbage.path) for garbage in items)
        table.add_row(kind, str(len(items)), f"{sum(g.size for g in items):,}", paths)
    return table
