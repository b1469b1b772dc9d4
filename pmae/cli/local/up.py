"""``pmae up`` and ``pmae demo``: the whole service on this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from pmae.cli.local.demo import run_demo
from pmae.runtime.interrupts import Interrupts
from pmae.up.configuration import UpSettings
from pmae.up.serve import keep_up


def up() -> None:
    """Start the whole service on this machine and keep it running until Ctrl-C."""
    settings = UpSettings.load()
    with Interrupts() as interrupts:
        keep_up(settings, interrupts, Console())


def demo(
    preset: Annotated[
        str, typer.Option(help="Spec to run: a preset's name, or a JSON or YAML file.")
    ] = "quickstart",
    exit_after: Annotated[
        bool, typer.Option("--exit", help="Stop everything when the run has ended.")
    ] = False,
) -> None:
    """Start the service, run a spec through it, and show the result."""
    raise typer.Exit(run_demo(preset, exit_after=exit_after, console=Console()))
