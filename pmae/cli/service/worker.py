"""``pmae worker``: the workers of a service, and giving back what one of them runs."""

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

WorkerName = Annotated[str, typer.Argument(help="Its name, as `pmae worker list` has it.")]
_LOOK_SECONDS = 0.5


worker_app.command("list")(workers)


@worker_app.command()
def drain(
    name: WorkerName,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when the worker has given back what it ran.")
    ] = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Let a worker take no more runs, and give back the one it has; another one goes on with it."""
    with connect(api_url) as client:
        client.drain(name)
        typer.echo(f"{name} was asked to drain; `pmae worker undrain` takes it back")
        if wait:
            _wait(client, name)


@worker_app.command()
def undrain(name: WorkerName, api_url: ApiUrl = LOCAL_API) -> None:
    """Let a worker take runs again."""
    with connect(api_url) as client:
        client.undrain(name)
    typer.echo(f"{name} takes runs again")


def _wait(client: PmaeClient, name: str) -> None:
    told = ""
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
                    typer.echo(f"somebody let {name} take runs again")
                    raise typer.Exit(1)
                now = f"waiting for run {found.run_id} to be given back"
            if now != told:
                typer.echo(now)
                told = now
            interrupts.pause(_LOOK_SECONDS)
            if interrupts.requested:
                raise typer.Exit(130)
