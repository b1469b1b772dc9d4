"""``pmae checkpoint``: keeping, removing and passing on single checkpoints."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pmae.cli.options import LOCAL_API, ApiUrl
from pmae.cli.output import print_table
from pmae.cli.resolve import CheckpointArgument, find_checkpoint
from pmae.client.environment import connect

checkpoint_app = typer.Typer(
    help="Pin, delete, or make download links to a checkpoint.", no_args_is_help=True
)


@checkpoint_app.command()
def pin(checkpoint: CheckpointArgument, api_url: ApiUrl = LOCAL_API) -> None:
    """Keep a checkpoint that the spec's retention would remove."""
    with connect(api_url) as client:
        typer.echo(f"{client.pin_checkpoint(find_checkpoint(client, checkpoint)).id} is pinned")


@checkpoint_app.command()
def unpin(checkpoint: CheckpointArgument, api_url: ApiUrl = LOCAL_API) -> None:
    """Let retention remove a checkpoint again."""
    with connect(api_url) as client:
        found = client.pin_checkpoint(find_checkpoint(client, checkpoint), pinned=False)
    typer.echo(f"{found.id} is not pinned any more")


@checkpoint_app.command()
def delete(
    checkpoint: CheckpointArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Delete a checkpoint's files. On a terminal it asks first."""
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
        str | None, typer.Option("--file", help="Which of its files; default: all.")
    ] = None,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Print addresses that fetch its files for some minutes without a key."""
    with connect(api_url) as client:
        found = client.download_links(find_checkpoint(client, checkpoint), file_name)
    rows = [(one.file_name, one.expires_at, one.url) for one in found]
    print_table(("file", "until", "address"), rows, flexible=("address",))
