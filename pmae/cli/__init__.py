"""The ``pmae`` command line. Faults are told in a sentence, never as a traceback."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape

from pmae.errors import PmaeError


def main() -> None:
    """Run the command line."""
    from pmae.cli.app import app

    try:
        app()
    except PmaeError as error:
        Console(stderr=True).print(f"[bold red]pmae:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
