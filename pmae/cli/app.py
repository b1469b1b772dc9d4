"""The commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pmae.cli.data import data_app
from pmae.cli.options import LOCAL_API, ApiUrl, connect
from pmae.cli.plugins import PluginGroup
from pmae.cli.table import presets, table
from pmae.cli.watch import show_result, watch_run
from pmae.cli.worker import worker_app
from pmae.spec import load_spec
from pmae.up.demo import run_demo
from pmae.up.interrupts import Interrupts
from pmae.up.run import keep_up
from pmae.up.settings import UpSettings

app = typer.Typer(
    help="Pretrain vision models by masking principal components.",
    cls=PluginGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
app.add_typer(worker_app, name="worker")
app.command()(table)
app.command()(presets)
console = Console()


@app.command()
def up() -> None:
    """Start the whole service on this machine and keep it running until Ctrl-C."""
    settings = UpSettings.load()
    with Interrupts() as interrupts:
        keep_up(settings, interrupts, console)


@app.command()
def demo(
    preset: Annotated[
        str, typer.Option(help="What to run: a preset's name, or a JSON or YAML file.")
    ] = "quickstart",
    exit_after: Annotated[
        bool, typer.Option("--exit", help="Stop everything when the run has ended.")
    ] = False,
) -> None:
    """Start the service, run a spec through it, and show what came out."""
    raise typer.Exit(run_demo(preset, exit_after=exit_after, console=console))


@app.command()
def train(
    spec: Annotated[str, typer.Argument(help="A preset's name, or a JSON or YAML file.")],
    run_dir: Annotated[Path, typer.Argument(help="Folder of the run; resumed if it exists.")],
) -> None:
    """Train in this terminal, without any service."""
    load_spec(spec)
    command = [sys.executable, "-m", "pmae.train", str(run_dir), "--spec", spec]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def submit(
    spec: Annotated[str, typer.Argument(help="A preset's name, or a JSON or YAML file.")],
    api_url: ApiUrl = LOCAL_API,
    priority: Annotated[int, typer.Option(help="Higher runs first.")] = 0,
) -> None:
    """Submit a run and print its id."""
    with connect(api_url) as client:
        is_file = Path(spec).is_file()
        run = client.submit(
            load_spec(spec) if is_file else None,
            preset=None if is_file else spec,
            priority=priority,
        )
    console.print(run.id, highlight=False)


@app.command()
def watch(
    run_id: Annotated[str, typer.Argument(help="Id of the run.")], api_url: ApiUrl = LOCAL_API
) -> None:
    """Follow a run to its end."""
    with connect(api_url) as client, Interrupts() as interrupts:

        def pause(seconds: float) -> bool:
            interrupts.pause(seconds)
            return interrupts.requested

        run = watch_run(client, run_id, console, pause)
    if run is None:
        raise typer.Exit(130)
    show_result(run, console)
    raise typer.Exit(0 if run.state == "succeeded" else 1)


@app.command()
def download(
    checkpoint_id: Annotated[str, typer.Argument(help="Id of the checkpoint.")],
    destination: Annotated[Path, typer.Argument(help="File to write.")],
    file_name: Annotated[
        str, typer.Option("--file", help="Which of the checkpoint's files.")
    ] = "model.safetensors",
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Download a file of a checkpoint; goes on where it was cut off, and verifies its digest."""
    with connect(api_url) as client:
        path = client.download(checkpoint_id, file_name, destination)
    console.print(f"{path}: sha256 verified", highlight=False)
