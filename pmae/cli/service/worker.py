"""``pmae worker``: list, drain and undrain the workers of a service."""

from __future__ import annotations

from typing import Annotated

import typer

from pmae.cli.options import LOCAL_API, ApiUrl
from pmae.cli.plugins import PluginGroup
from pmae.cli.service.status import workers
from pmae.client import PmaeClient
from pmae.client.client import connect
from pmae.errors import ClientError
from pmae.runtime.interrupts import Interrupts

worker_app = typer.Typer(help="Workers of a service.", no_args_is_help=True, cls=PluginGroup)

WorkerName = Annotated[str, typer.Argument(help="Name of the worker, from `pmae worker list`.")]
_LOOK_SECONDS = 0.5


worker_app.command("list")(workers)


@worker_app.command()
def drain(
    name: WorkerName,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait until the worker has given back its run."),
    ] = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Let a worker take no more runs, and return its run to the queue for another worker."""
    with connect(api_url) as client:
        client.drain(name)
        typer.echo(f"{name} is draining; `pmae worker undrain {name}` undoes it")
        if wait:
            _wait(client, name)


@worker_app.command()
def undrain(name: WorkerName, api_url: ApiUrl = LOCAL_API) -> None:
    """Let a worker take runs again."""
    with connect(api_url) as client:
        client.undrain(name)
    typer.echo(f"{name} takes runs again")


def _wait(client: PmaeClient, name: str) -> None:
    printed = ""
    with Interrupts() as interrupts:
        while True:
            try:
                found = next((worker for worker in client.workers() if worker.name == name), None)
            except ClientError as error:
                now = str(error)
            else:
                if found is None:
                    typer.echo(f"{name} is not up")
                    return
                if found.run_id is None:
                    typer.echo(f"{name} runs nothing")
                    return
                if not found.draining:
                    typer.echo(f"{name} was undrained while waiting for it")
                    raise typer.Exit(1)
                now = f"waiting for run {found.run_id} to return to the queue"
            if now != printed:
                typer.echo(now)
                printed = now
            interrupts.pause(_LOOK_SECONDS)
            if interrupts.requested:
                raise typer.Exit(130)
