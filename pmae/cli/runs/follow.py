"""``pmae watch`` and ``pmae logs``: follow a run's progress and its log."""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from pmae.cli.options import LOCAL_API, ApiUrl
from pmae.cli.resolve import RunArgument, find_run
from pmae.cli.runs.watch import show_result, watch_run
from pmae.client import PmaeClient
from pmae.client.backoff import Backoff
from pmae.client.client import connect
from pmae.client.reader import EventReader
from pmae.errors import ClientError
from pmae.runtime.interrupts import Interrupts

INTERRUPTED = 130
_LOOK_SECONDS = 0.1
"""Interval between two checks for new events."""
_SILENT_SECONDS = 2.0
"""Interval after which the log is read without an event: it may grow by itself."""
_TAIL_BYTES = 65_536


def watch(run: RunArgument, api_url: ApiUrl = LOCAL_API) -> None:
    """Follow a run to its end; exit status 0 if it succeeded, else 1."""
    with connect(api_url) as client:
        watch_to_end(client, find_run(client, run))


def watch_to_end(client: PmaeClient, run_id: str) -> None:
    """Show a run's progress until it ends, then its result.

    Raises:
        typer.Exit: always; status 0 if the run succeeded, 130 after Ctrl-C, else 1.
    """
    console = Console()
    with Interrupts() as interrupts:

        def pause(seconds: float) -> bool:
            interrupts.pause(seconds)
            return interrupts.requested

        run = watch_run(client, run_id, console, pause)
    if run is None:
        raise typer.Exit(INTERRUPTED)
    show_result(run, console)
    raise typer.Exit(0 if run.state == "succeeded" else 1)


def logs(
    run: RunArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new lines until the run ends.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(min=0, help="Print only this many of the last lines.")
    ] = None,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Print the log of a run's trainers, all attempts one after the other."""
    with connect(api_url) as client:
        run_id = find_run(client, run)
        text, offset = ("", 0) if tail is None else _tail(client, run_id, tail)
        _write(text)
        if not follow:
            for _ in _copy(client, run_id, offset):
                pass
            return
        with Interrupts() as interrupts:
            _follow(client, run_id, offset, interrupts)
        if interrupts.requested:
            raise typer.Exit(INTERRUPTED)


def _follow(client: PmaeClient, run_id: str, offset: int, interrupts: Interrupts) -> None:
    """Print the log as it grows, until the run ends or ``interrupts`` requests a stop.

    A run that moves to another worker has not ended. While the service is away, wait for it.

    Raises:
        ClientError: waiting does not help: the run was deleted, or the key is no longer valid.
    """
    backoff = Backoff(lambda text: typer.echo(f"pmae: {text}", err=True), interrupts.pause)
    news = threading.Event()
    events = EventReader(
        lambda: client.events(run_id, backoff=Backoff()), lambda _: news.set()
    ).start()
    copied_at = -math.inf
    while not interrupts.requested:
        # Ask first, then read: the log is complete once the end is known.
        ended = events.has_ended()
        if ended or news.is_set() or time.monotonic() - copied_at > _SILENT_SECONDS:
            news.clear()
            try:
                for copied in _copy(client, run_id, offset):
                    offset = copied
            except ClientError as error:
                backoff.wait_after(error)
                continue
            backoff.answered()
            copied_at = time.monotonic()
        if ended:
            return
        interrupts.pause(_LOOK_SECONDS)


def _copy(client: PmaeClient, run_id: str, offset: int) -> Iterator[int]:
    """Print the log from ``offset`` (in bytes) on; yield the offset after each printed chunk."""
    while True:
        chunk = client.log(run_id, offset=offset)
        if chunk.next_offset == offset:
            return
        _write(chunk.text)
        offset = chunk.next_offset
        yield offset


def _tail(client: PmaeClient, run_id: str, lines: int) -> tuple[str, int]:
    """Return the last ``lines`` lines and the offset of their end, reading backwards in steps."""
    reach = _TAIL_BYTES
    while True:
        chunk = client.log(run_id, offset=-reach)
        text, start, end = chunk.text, chunk.offset, chunk.next_offset
        while end < chunk.size:
            more = client.log(run_id, offset=end)
            text, end = text + more.text, more.next_offset
        found = re.findall(r"[^\n]*\n|[^\n]+", text)
        if start == 0 or len(found) > lines:
            return "".join(found[-lines:]) if lines else "", end
        reach *= 4


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
