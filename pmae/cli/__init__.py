"""The ``pmae`` command line. Faults are told in a sentence, never as a traceback."""

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
        # A file of the user's: a broken pipe is dealt with where it is written to.
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except UnicodeEncodeError as error:
        _fail(_without_utf8(error))


def _without_utf8(error: UnicodeEncodeError) -> str:
    """What to change: a file's name may be any bytes, but what is sent or printed is text."""
    for argument in map(os.fsencode, sys.argv[1:]):
        try:
            argument.decode("utf-8")
        except UnicodeDecodeError:
            return f"the argument {argument!r} is not UTF-8"
    part = error.object[error.start : error.end]
    return (
        f"{part!r} cannot be written in {error.encoding}; valid is a UTF-8 locale, and UTF-8 text"
    )


def _fail(told: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]pmae:[/] {escape(told)}", soft_wrap=True)
    sys.exit(1)
