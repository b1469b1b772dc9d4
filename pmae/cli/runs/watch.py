"""Show a run in the terminal: its progress while it runs, its results at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pmae.cli.output import print_table
from pmae.client import Event, PmaeClient
from pmae.client.backoff import Backoff
from pmae.client.reader import EventReader
from pmae.errors import ClientError
from pmae.schema import Evaluation, Run
from pmae.schema import Progress as RunProgress
from pmae.spec import PROTOCOL_NAMES

_LOOK_SECONDS = 0.1
"""Interval between two checks for the run's end; events are shown as they arrive."""
_PLAIN_LINE_SECONDS = 5.0
"""Minimum interval between two lines of the same stage, without a progress bar."""


def watch_run(
    client: PmaeClient, run_id: str, console: Console, pause: Callable[[float], bool]
) -> Run | None:
    """Show a run's progress until it ends.

    Args:
        client: of the service.
        run_id: id of the run.
        console: shows a bar on a terminal, else a line per stage and every few seconds.
        pause: sleeps for some seconds; returns True to stop watching.

    Returns:
        The ended run; None if watching was stopped.

    Raises:
        ClientError: the run does not exist (any more), or the key is not valid (any more). An
            unreachable service is waited for.
    """
    display = _Display(console)
    backoff = Backoff(display.print)
    with display:
        reader = EventReader(lambda: client.events(run_id, backoff=backoff), display.show).start()
        while not reader.has_ended():
            if pause(_LOOK_SECONDS):
                return None
    while True:
        try:
            return client.run(run_id)
        except ClientError as error:
            if pause(backoff.seconds_after(error)):
                return None


class _Display:
    """Progress display: a bar on a terminal, lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state = "queued"
        self._progress = RunProgress()
        self._line, self._stage, self._printed_at = "", "", -math.inf
        self._bar = Progress(
            TextColumn("{task.fields[stage]:<8}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", stage="queued", figures="", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def print(self, text: str) -> None:
        """Print a message about the service."""
        self._console.print(f"pmae: {text}", highlight=False, markup=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        """Update the display from an event of the run."""
        if event.progress is not None:
            self._progress = event.progress
        elif event.type == "state" and event.entry is not None and not event.is_final:
            self._state = str(event.entry.data.get("to", self._state))
        else:
            return
        progress = self._progress
        stage = progress.stage or self._state
        figures = _figures(progress)
        self._bar.update(
            self._task,
            stage=stage,
            total=progress.total,
            completed=progress.done or 0,
            figures=figures,
        )
        if not self._console.is_terminal:
            self._print(stage, ": ".join(filter(None, (stage, figures))))

    def _print(self, stage: str, line: str) -> None:
        now = time.monotonic()
        recent = now - self._printed_at < _PLAIN_LINE_SECONDS
        if line == self._line or (stage == self._stage and recent):
            return
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._line, self._stage, self._printed_at = line, stage, now


def show_result(run: Run, console: Console) -> None:
    """Print the run's final state, or its evaluations beside their baselines if it succeeded."""
    if run.state != "succeeded":
        reason = f": {run.reason}" if run.reason else ""
        verb = "was" if run.state == "cancelled" else "has"
        text = f"run {run.id} {verb} {run.state}{reason}"
        console.print(text, style="bold red", markup=False, highlight=False, soft_wrap=True)
        return
    at_the_end = [found for found in run.evaluations if "@" not in found.key]
    rows = [
        (PROTOCOL_NAMES.get(found.protocol, found.protocol), _features(found), _top1(found))
        for found in sorted(at_the_end, key=lambda found: (found.protocol, -found.top1))
    ]
    title = f"Top-1 on the test split of {run.dataset}"
    print_table(("protocol", "features", "top-1"), rows, title=title, flexible=("features",))


def _features(evaluation: Evaluation) -> str:
    """Name the features, as ``trained encoder (CLS token)``, and a transfer's data set."""
    features = evaluation.features.replace("_", " ")
    if evaluation.features != "raw_pixels":
        token = "mean token" if evaluation.details.get("features") == "mean" else "CLS token"
        trained = "trained " if evaluation.features == "encoder" else ""
        features = f"{trained}{features} ({token})"
    other = (evaluation.details.get("spec") or {}).get("dataset")
    return f"{features} on {other['name']}" if other else features


def _top1(evaluation: Evaluation) -> str:
    std = evaluation.details.get("top1_std")
    shown = f"{evaluation.top1:.1%}" + ("" if std is None else f" ± {std:.1%}")
    balanced = evaluation.telling_balanced_accuracy
    return shown if balanced is None else f"{shown} (balanced {balanced:.1%})"


def _figures(progress: RunProgress) -> str:
    parts = []
    training = progress.stage == "pretrain"
    if training and progress.epoch is not None and progress.total_epochs is not None:
        parts.append(f"epoch {progress.epoch}/{progress.total_epochs}")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.eta_seconds is not None:
        parts.append(f"{_duration(progress.eta_seconds)} left")
    if not parts and progress.total:
        parts.append(f"{progress.done or 0}/{progress.total}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes}:{rest:02d}"
