"""A run in the terminal: progress while it goes on, figures when it has ended."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pmae.cli.backoff import Patience
from pmae.cli.output import print_table
from pmae.client import PmaeClient
from pmae.errors import ClientError
from pmae.schema import TERMINAL_STATES, Evaluation, Run

_LOOK_SECONDS = 0.5
_PLAIN_LINE_LOOKS = 10
"""Between two lines, where there is no bar, of a run that goes on."""
_PROTOCOLS = {"linear": "linear probe", "mlp": "MLP probe", "knn": "k-NN", "finetune": "fine-tuned"}


def watch_run(
    client: PmaeClient, run_id: str, console: Console, pause: Callable[[float], bool]
) -> Run | None:
    """Show a run's progress until it ends.

    Args:
        client: of the service.
        run_id: id of the run.
        console: a bar on a terminal, else a line every few seconds.
        pause: sleeps; says whether to stop watching.

    Returns:
        The ended run; None if watching was stopped.

    Raises:
        ClientError: there is no such run (any more), or the key does not hold (any more). While
            the service is only away, it is waited for.
    """
    columns = (
        TextColumn("{task.fields[stage]:<8}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[figures]}"),
    )
    told, looks = "", 0

    def tell(text: str) -> None:
        console.print(f"pmae: {text}", highlight=False, markup=False, soft_wrap=True)

    patience = Patience(tell)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", stage="queued", figures="", total=None)
        while True:
            try:
                run = client.run(run_id)
            except ClientError as error:
                if pause(patience.seconds_after(error)):
                    return None
                continue
            patience.answered()
            if run.state in TERMINAL_STATES:
                return run
            stage = run.progress.stage or run.state
            bar.update(
                task,
                stage=stage,
                total=run.progress.total,
                completed=run.progress.done or 0,
                figures=_figures(run),
            )
            line = ": ".join(filter(None, (stage, _figures(run))))
            if not console.is_terminal and looks % _PLAIN_LINE_LOOKS == 0 and line != told:
                console.print(line, highlight=False, markup=False, soft_wrap=True)
                told = line
            looks += 1
            if pause(_LOOK_SECONDS):
                return None


def show_result(run: Run, console: Console) -> None:
    """Print how a run ended and its evaluations beside their baselines."""
    if run.state != "succeeded":
        reason = f": {run.reason}" if run.reason else ""
        verb = "was" if run.state == "cancelled" else "has"
        text = f"run {run.id} {verb} {run.state}{reason}"
        console.print(text, style="bold red", markup=False, highlight=False, soft_wrap=True)
        return
    at_the_end = [found for found in run.evaluations if "@" not in found.key]
    rows = [
        (_PROTOCOLS.get(found.protocol, found.protocol), _features(found), _top1(found))
        for found in sorted(at_the_end, key=lambda found: (found.protocol, -found.top1))
    ]
    title = f"Top-1 on the test split of {run.dataset}"
    print_table(("protocol", "features", "top-1"), rows, title=title, flexible=("features",))


def _features(evaluation: Evaluation) -> str:
    """``trained encoder (CLS token)``, and where they are of another data set, of which."""
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


def _figures(run: Run) -> str:
    progress = run.progress
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
