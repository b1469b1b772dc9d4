"""``pmae gc``, and the groups ``keys``, ``db`` and so on: commands on the database and files."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from api.audit.entries import forget_old
from api.db.command_database import command_database, command_settings
from api.db.session import make_sessions
from api.storage.collector import find_garbage, remove_garbage
from pmae.cli.output import print_table

gc = typer.Typer()
explaining = Console(stderr=True)


@gc.command()
def collect_garbage(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be removed.")
    ] = False,
    min_age_hours: Annotated[
        float, typer.Option(min=0, help="Keep files that changed more recently.")
    ] = 24.0,
    keep_bases: Annotated[
        bool,
        typer.Option(
            "--keep-bases",
            help="Keep all bases; trainings outside of the service may need them.",
        ),
    ] = False,
    audit_days: Annotated[
        int,
        typer.Option(
            "--audit-days",
            min=1,
            envvar="PMAE_AUDIT_RETENTION_DAYS",
            help="Also remove older entries of the audit trail.",
        ),
    ] = 365,
) -> None:
    """Remove files that nothing needs. Safe while the service runs.

    Removes remains of deleted runs; folders of runs that are not in the database; half-written
    checkpoints and bases; rolling checkpoints of ended runs that no resume needs; bases that no run
    uses; old entries of the audit trail. Uses the API's settings (PMAE_HOME, PMAE_DATABASE_URL,
    PMAE_ARTIFACT_ROOT).
    """
    settings = command_settings()
    with command_database(settings) as engine:
        sessions = make_sessions(engine)
        found = find_garbage(
            sessions, settings, min_age_seconds=3600 * min_age_hours, keep_bases=keep_bases
        )
        gone = found if dry_run else remove_garbage(sessions, settings, found)
        forgotten = forget_old(sessions, audit_days, dry_run=dry_run)
    verb = "would be" if dry_run else "were"
    if gone:
        rows = [(garbage.kind, str(garbage.size), str(garbage.path)) for garbage in gone]
        print_table(("what", "bytes", "where"), rows, flexible=("where",))
        total = sum(garbage.size for garbage in gone)
        explaining.print(f"{len(gone)} of these {verb} removed, {total:,} bytes", highlight=False)
    else:
        explaining.print("nothing to remove")
    if forgotten:
        explaining.print(
            f"{forgotten} entries of the audit trail {verb} removed, older than {audit_days} days"
        )
    left = len(found) - len(gone)
    if left:
        explaining.print(f"{left} could not be removed, or are in use again", style="yellow")
