"""The ``pmae`` command line. Errors are printed as one sentence, never as a traceback."""

from __future__ import annotations

import os
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
        from pmae.cli.hints import told

        _fail(told(error))
    except OSError as error:
        # A file named by the user; Typer handles broken pipes itself.
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except UnicodeEncodeError as error:
        _fail(_without_utf8(error))


def _without_utf8(error: UnicodeEncodeError) -> str:
    """Name the text that is not UTF-8: file names may be any bytes, requests and output not."""
    for argument in map(os.fsencode, sys.argv[1:]):
        try:
            argument.decode("utf-8")
        except UnicodeDecodeError:
            return f"the argument {argument!r} is not UTF-8; expected UTF-8 text"
    part = error.object[error.start : error.end]
    return f"{part!r} cannot be written in {error.encoding}; expected UTF-8 text and a UTF-8 locale"


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]pmae:[/] {escape(message)}", soft_wrap=True)
    sys.exit(1)
