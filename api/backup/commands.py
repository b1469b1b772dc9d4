"""``pmae backup`` and ``pmae restore``: work on the service's database and files."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from api.backup.create import Made, make_backup
from api.backup.manifest import find_generation
from api.backup.restore import check_fits, restore_backup, verify
from api.db.command_database import command_database, command_settings
from api.db.settings import ServiceSettings
from pmae.cli.hints import told
from pmae.cli.output import size
from pmae.errors import CommandError, PmaeError

backup = typer.Typer()
restore = typer.Typer()
explaining = Console(stderr=True)
_MAX_NAMED = 10


@backup.command()
def back_up(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of all backups, outside of the artifacts; it must exist."
        ),
    ],
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Afterwards remove all but this many of the newest backups."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="HH:MM",
            help="Keep running and make a backup every day at this time, in the time zone TZ.",
        ),
    ] = None,
) -> None:
    """Add a backup of the service to DIR. Safe while runs train.

    A backup is a folder named after the time, with the database, runs and bases, and a manifest
    with the digest of each file. Files unchanged since the newest backup become hard links to it.
    Uses the API's settings (PMAE_HOME, PMAE_DATABASE_URL, PMAE_ARTIFACT_ROOT). Data sets, the
    secret that signs download links and .env are not included.
    """
    settings = command_settings()
    if at is None:
        _make(settings, folder, keep)
        return
    hour, minute = _parse_time(at)
    while True:
        due = _next(datetime.now().astimezone(), hour, minute)
        _tell(f"the next backup is made at {due:%Y-%m-%d %H:%M %Z}")
        while (left := due.timestamp() - time.time()) > 0:
            time.sleep(min(left, 60))  # in steps, since the clock may be changed
        try:
            _make(settings, folder, keep)
        except (PmaeError, OSError) as error:
            # Keep running: tomorrow's backup may succeed.
            _tell(f"no backup was made: {told(error) if isinstance(error, PmaeError) else error}")


@restore.command()
def restore_service(
    path: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A backup, or a folder of backups: the newest of them."),
    ],
    check: Annotated[
        bool,
        typer.Option("--check", help="Only verify the digests of the backup; change nothing."),
    ] = False,
) -> None:
    """Restore a backup into an empty service, which must be stopped.

    Every file is verified first. Runs that were running continue from their newest checkpoint, and
    API keys stay valid. Uses the API's settings (PMAE_HOME, PMAE_DATABASE_URL, PMAE_ARTIFACT_ROOT).
    """
    generation = find_generation(path)
    if check:
        check_fits(generation, None)
        verify(generation, _tell)
        manifest = generation.manifest
        _tell(
            f"{generation.folder} is complete: {manifest.num_runs:,} runs, {manifest.num_files:,} "
            f"files, {size(manifest.num_bytes)}, made by pmae {manifest.version} with the schema "
            f"{manifest.database.revision} of {manifest.database.kind}"
        )
        return
    settings = command_settings()
    with command_database(settings, may_be_empty=True) as engine:
        settled = restore_backup(engine, settings, generation, _tell)
    _tell(f"{generation.folder} is restored: {generation.manifest.num_runs:,} runs")
    if settled.reclaimed:
        number = f"{len(settled.reclaimed):,}"
        _tell(f"{number} of them continue from a checkpoint: {_some(settled.reclaimed)}")
    if settled.left_out:
        _tell(
            f"{len(settled.left_out):,} checkpoints are missing, since their files were removed or "
            f"replaced during the backup: {_some(settled.left_out)}"
        )


def _make(settings: ServiceSettings, folder: Path, keep: int | None) -> None:
    with command_database(settings) as engine:
        made = make_backup(engine, settings, folder, keep=keep, tell=_tell)
    _tell(_summary(made))
    for broken in made.copied.broken:
        _tell(f"damaged in the artifact folder: {broken} does not match its manifest")
    typer.echo(made.generation.folder)


def _summary(made: Made) -> str:
    manifest, copied = made.generation.manifest, made.copied
    removed = f"; older backups removed: {len(made.removed)}" if made.removed else ""
    return (
        f"{manifest.num_runs:,} runs, {manifest.num_files:,} files of {size(manifest.num_bytes)}: "
        f"{copied.num_linked:,} unchanged since the backup before, "
        f"{size(copied.num_copied_bytes)} copied{removed}"
    )


def _parse_time(text: str) -> tuple[int, int]:
    try:
        found = datetime.strptime(text, "%H:%M")
    except ValueError:
        raise CommandError(f"--at: expected a time of day as HH:MM, got {text!r}") from None
    return found.hour, found.minute


def _next(now: datetime, hour: int, minute: int) -> datetime:
    """Return the next occurrence of a time of day, in the local time zone."""
    day = now.replace(tzinfo=None, hour=hour, minute=minute, second=0, microsecond=0)
    while day.astimezone() <= now:
        day += timedelta(days=1)
    return day.astimezone()


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _MAX_NAMED:,} more" if len(ids) > _MAX_NAMED else ""
    return ", ".join(ids[:_MAX_NAMED]) + more


def _tell(line: str) -> None:
    explaining.print(line, highlight=False, markup=False, soft_wrap=True)
