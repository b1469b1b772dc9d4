"""The ``pmae`` command line. Faults are told in a sentence, never as a traceback."""

from __future__ import annotations

import sys
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from pmae.errors import PmaeError


def main() -> None:
    """Run the command line."""
    from pmae.cli.app import app

    try:
        app()
    except PmaeError as error:
        _fail(str(error))
    except OSError as error:
        # A file of the user's: a broken pipe is dealt with where it is written to.
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(told: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]pmae:[/] {escape(told)}", soft_wrap=True)
    sys.exit(1)
