"""Resolve user input to the id of a run or of a checkpoint."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from pmae.client import PmaeClient
from pmae.errors import CommandError
from pmae.schema import MOST_IN_A_PAGE

ID_LENGTH = 12
MIN_PREFIX = 4
_HEXADECIMAL = re.compile(r"[0-9a-f]+")

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of a run, or its first four characters or more.")
]
RunArguments = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", help="Ids of runs, or their first four characters or more."),
]
CheckpointArgument = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT", help="Id of a checkpoint, or of a run for its newest kept one."
    ),
]


def find_run(client: PmaeClient, text: str) -> str:
    """Return the id of the run with the id or unique id prefix ``text``.

    Raises:
        CommandError: no run or several runs match; lists them.
    """
    wanted = text.lower()
    if len(wanted) >= ID_LENGTH:
        return wanted
    if len(wanted) < MIN_PREFIX or _HEXADECIMAL.fullmatch(wanted) is None:
        raise CommandError(
            f"{text!r} names no run; expected an id of {ID_LENGTH} hexadecimal digits, or its "
            f"first {MIN_PREFIX} or more (`pmae list` prints them)"
        )
    found = _runs_that_begin(client, wanted)
    if not found:
        raise CommandError(f"no run's id begins with {wanted}; `pmae list --all` prints all ids")
    if len(found) > 1:
        raise CommandError(
            f"the ids of several runs begin with {wanted}: {', '.join(found)}; give more digits"
        )
    return found[0]


def find_checkpoint(client: PmaeClient, text: str) -> str:
    """Return the id of the checkpoint ``text``, or of the newest kept one of the run ``text``.

    Raises:
        CommandError: there is no such run, or it has no kept checkpoint.
    """
    run, dash, step = text.lower().partition("-")
    if dash:
        return f"{find_run(client, run)}-{step}"
    run = find_run(client, run)
    kept = next(client.checkpoints(run, kind="kept", page_size=1), None)
    if kept is None:
        raise CommandError(
            f"the run {run} has no kept checkpoint; `pmae checkpoints {run}` lists those it has"
        )
    return kept.id


def _runs_that_begin(client: PmaeClient, prefix: str) -> list[str]:
    """Return ids that begin with ``prefix``: all if there are at most one, else at least two.

    One page suffices unless many names contain the prefix, since the filter matches names too.
    """
    found: list[str] = []
    cursor = None
    while True:
        page = client.runs(text=prefix, limit=MOST_IN_A_PAGE, cursor=cursor)
        found += [run.id for run in page.items if run.id.startswith(prefix)]
        cursor = page.next_cursor
        if cursor is None or len(found) > 1:
            return found
