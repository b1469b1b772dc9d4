"""``pmae worker run``: run a worker."""

from __future__ import annotations

import typer

run = typer.Typer()


@run.command()
def run_worker() -> None:
    """Run a worker in this terminal until Ctrl-C, which drains it."""
    # Imported here, since it reads the settings.
    from worker.__main__ import main

    main()
