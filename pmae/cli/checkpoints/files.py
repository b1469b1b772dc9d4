"""Checkpoint commands: list, download, pin, delete, and make download links."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from pmae.cli.options import LOCAL_API, ApiUrl, AsJson
from pmae.cli.output import print_json, print_table, size
from pmae.cli.resolve import CheckpointArgument, RunArgument, find_checkpoint, find_run
from pmae.client import ApiError, PmaeClient
from pmae.client.client import connect
from pmae.errors import CommandError
from pmae.runs.layout import BASES_FOLDER, MODEL_FILE
from pmae.schema import MOST_IN_A_PAGE, CheckpointPage
from pmae.schema.access import DownloadLink

checkpoint_app = typer.Typer(
    help="Pin, delete, or make download links to a checkpoint.", no_args_is_help=True
)


def checkpoints(run: RunArgument, as_json: AsJson = False, api_url: ApiUrl = LOCAL_API) -> None:
    """List a run's checkpoints, newest first."""
    with connect(api_url) as client:
        found = list(client.checkpoints(find_run(client, run), page_size=MOST_IN_A_PAGE))
    if as_json:
        print_json(CheckpointPage(items=found))
        return
    rows = [
        (
            one.id,
            one.kind,
            str(one.step),
            f"{one.epoch:g}",
            size(sum(facts.size for facts in one.files.values())),
            "yes" if one.pinned else "",
            one.created_at,
        )
        for one in found
    ]
    columns = ("id", "kind", "step", "epoch", "size", "pinned", "created")
    print_table(columns, rows, spare=("created", "size"))


def download(
    checkpoint: CheckpointArgument,
    destination: Annotated[
        Path | None,
        typer.Argument(
            metavar="DEST",
            help="File to write, or an existing folder; with --all a folder. Default: a folder "
            "named like the checkpoint.",
        ),
    ] = None,
    file_name: Annotated[
        str | None, typer.Option("--file", help=f"File of the checkpoint; default: {MODEL_FILE}.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every file of the checkpoint, and its basis.")
    ] = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Download a checkpoint: resume a partial download, and verify the digests."""
    if everything and file_name is not None:
        raise typer.BadParameter("--all and --file exclude each other; expected one of them")
    with connect(api_url) as client:
        checkpoint_id = find_checkpoint(client, checkpoint)
        target = destination or Path(checkpoint_id)
        if everything or destination is None:
            target.mkdir(parents=True, exist_ok=True)
        elif not target.parent.is_dir():
            raise CommandError(f"there is no folder {target.parent} to write to")
        with _Bars() as bars:
            if everything:
                fetched = client.download_folder(checkpoint_id, target, progress=bars.show)
            else:
                name = file_name or MODEL_FILE
                fetched = iter([_fetch(client, checkpoint_id, name, target, bars)])
            for path in fetched:
                typer.echo(f"{path}: sha256 verified")


def _fetch(client: PmaeClient, checkpoint_id: str, name: str, target: Path, bars: _Bars) -> Path:
    return client.download(checkpoint_id, name, target, progress=partial(bars.show, name))


class _Bars(Progress):
    """One progress bar per file; shown only on a terminal."""

    def __init__(self) -> None:
        console = Console()
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._files: dict[str, TaskID] = {}

    def show(self, name: str, there: int, total: int) -> None:
        """Show that ``there`` of ``total`` bytes of a file have arrived."""
        if name not in self._files:
            self._files[name] = self.add_task(name)
        self.update(self._files[name], completed=there, total=total)


@checkpoint_app.command()
def pin(checkpoint: CheckpointArgument, api_url: ApiUrl = LOCAL_API) -> None:
    """Pin a checkpoint, so that retention does not remove it."""
    with connect(api_url) as client:
        typer.echo(f"{client.pin_checkpoint(find_checkpoint(client, checkpoint)).id} is pinned")


@checkpoint_app.command()
def unpin(checkpoint: CheckpointArgument, api_url: ApiUrl = LOCAL_API) -> None:
    """Unpin a checkpoint, so that retention may remove it."""
    with connect(api_url) as client:
        found = client.pin_checkpoint(find_checkpoint(client, checkpoint), pinned=False)
    typer.echo(f"{found.id} is no longer pinned")


@checkpoint_app.command()
def delete(
    checkpoint: CheckpointArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Delete a checkpoint's files; on a terminal, ask first."""
    with connect(api_url) as client:
        checkpoint_id = find_checkpoint(client, checkpoint)
        if not yes and sys.stdin.isatty():
            typer.confirm(f"delete the checkpoint {checkpoint_id}?", abort=True)
        client.delete_checkpoint(checkpoint_id)
    typer.echo(f"{checkpoint_id} is deleted")


@checkpoint_app.command()
def link(
    checkpoint: CheckpointArgument,
    file_name: Annotated[
        str | None, typer.Option("--file", help="File of the checkpoint; default: all.")
    ] = None,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Print temporary links that download a checkpoint's files and its basis without a key."""
    with connect(api_url) as client:
        checkpoint_id = find_checkpoint(client, checkpoint)
        found = client.download_links(checkpoint_id, file_name)
        if file_name is None:
            found += _basis_links(client, checkpoint_id)
    rows = [(one.file_name, one.expires_at, one.url) for one in found]
    print_table(("file", "until", "address"), rows, flexible=("address",))


def _basis_links(client: PmaeClient, checkpoint_id: str) -> list[DownloadLink]:
    """Return links to the files of the checkpoint's basis; empty if it has no basis."""
    try:
        basis = client.basis(checkpoint_id)
    except ApiError as error:
        if error.problem.code != "no_basis":
            raise
        return []
    places = [f"{BASES_FOLDER}/{basis.digest}/{name}" for name in sorted(basis.files)]
    return [link for place in places for link in client.download_links(checkpoint_id, place)]
