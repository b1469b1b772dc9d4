"""From what somebody types to the id of a run or of a checkpoint."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from pmae.client import PmaeClient
from pmae.errors import CommandError
from pmae.schema import MOST_IN_A_PAGE

ID_LENGTH = 12
SHORTEST_PREFIX = 4
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
    typer.Argument(metavar="CHECKPOINT", help="Id of a checkpoint; or a run: its newest kept one."),
]


def find_run(client: PmaeClient, text: str) -> str:
    """The id of the run that ``text`` names or that alone begins so.

    Raises:
        CommandError: no run begins so, or several do; names them.
    """
    wanted = text.lower()
    if len(wanted) >= ID_LENGTH:
        return wanted
    if len(wanted) < SHORTEST_PREFIX or _HEXADECIMAL.fullmatch(wanted) is None:
        raise CommandError(
            f"{text!r} names no run; valid is an id of {ID_LENGTH} hexadecimal digits, or its "
            f"first {SHORTEST_PREFIX} or more (`pmae list` has them)"
        )
    found = _runs_that_begin(client, wanted)
    if not found:
        raise CommandError(f"no run's id begins with {wanted}; `pmae list --all` has them")
    if len(found) > 1:
        raise CommandError(
            f"the ids of several runs begin with {wanted}: {', '.join(found)}; give more of it"
        )
    return found[0]


def find_checkpoint(client: PmaeClient, text: str) -> str:
    """The id of the checkpoint that ``text`` names, or of the newest kept one of a run.

    Raises:
        CommandError: there is no such run, or it has no kept checkpoint.
    """
    run, dash, step = text.lower().partition("-")
    if dash:
        return f"{find_run(client, run)}-{step}"
    run = find_run(client, run)
    kept = next(client.checkpoints(run, kind="kept", page_size=1), None)
    if kept is None:
        raise CommandError(f"the run {run} has no kept checkpoint")
    return kept.id


def _runs_that_begin(client: PmaeClient, prefix: str) -> list[str]:
    """A page is enough but for where names are full of such digits."""
    found: list[str] = []
    cursor = None
    while True:
        page = client.runs(text=prefix, limit=MOST_IN_A_PAGE, cursor=cursor)
        found += [run.id for run in page.items if run.id.startswith(prefix)]
        cursor = page.next_cursor
        if cursor is None or len(found) > 1:
            return found
