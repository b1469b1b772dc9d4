"""Commands for single runs: show, cancel, resume, rerun, delete, metrics."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from pmae.cli.hints import told
from pmae.cli.options import LOCAL_API, ApiUrl, AsJson
from pmae.cli.output import moment, print_facts, print_json, print_table, share
from pmae.cli.resolve import RunArgument, RunArguments, find_run
from pmae.cli.runs.listing import epochs
from pmae.client import PmaeClient
from pmae.client.client import connect
from pmae.errors import CommandError, PmaeError
from pmae.metrics import BAND_METRICS, METRICS, unknown_metric
from pmae.schema import Run


def show(run: RunArgument, as_json: AsJson = False, api_url: ApiUrl = LOCAL_API) -> None:
    """Show one run: its fields, progress and results."""
    with connect(api_url) as client:
        found = client.run(find_run(client, run))
    if as_json:
        print_json(found)
        return
    print_facts(_facts(found))
    if found.evaluations:
        typer.echo()
        rows = [
            (one.key, f"{one.epoch:g}", one.split, share(one.top1)) for one in found.evaluations
        ]
        print_table(("evaluation", "epoch", "split", "top1"), rows)


def cancel(runs: RunArguments, api_url: ApiUrl = LOCAL_API) -> None:
    """Cancel runs; a running one is cancelled once its process has ended."""

    def one(client: PmaeClient, run_id: str) -> str:
        run = client.cancel(run_id)
        stopped = run.state == "cancelled"
        return (
            f"{run.id} {'is cancelled' if stopped else 'is cancelled once its process has ended'}"
        )

    _each(runs, api_url, one)


def resume(runs: RunArguments, api_url: ApiUrl = LOCAL_API) -> None:
    """Queue failed or cancelled runs again; each resumes from its newest valid checkpoint."""
    _each(runs, api_url, lambda client, run_id: f"{client.resume(run_id).id} is queued")


def rerun(runs: RunArguments, api_url: ApiUrl = LOCAL_API) -> None:
    """Queue new runs with exactly the specs of these, and print their ids."""
    _each(runs, api_url, lambda client, run_id: client.rerun(run_id).id)


def delete(
    runs: RunArguments,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Delete runs that have ended, with their checkpoints; on a terminal, ask first."""
    if not yes and sys.stdin.isatty():
        typer.confirm(f"delete {', '.join(runs)} with all checkpoints?", abort=True)

    def one(client: PmaeClient, run_id: str) -> str:
        client.delete(run_id)
        return f"{run_id} is deleted"

    _each(runs, api_url, one)


def metrics(
    run: RunArgument,
    name: Annotated[
        list[str] | None, typer.Option(help="Only this metric. Repeatable; default: all.")
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print every point as comma-separated values.")
    ] = False,
    as_json: AsJson = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Print a run's metrics: one line each, or with --csv every point."""
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json exclude each other; expected one of them")
    unknown = [each for each in name or () if each not in METRICS]
    if unknown:
        raise typer.BadParameter(unknown_metric(unknown[0]), param_hint="--name")
    with connect(api_url) as client:
        run_id = find_run(client, run)
        if as_csv:
            for piece in client.metrics_csv([run_id], names=name):
                sys.stdout.write(piece)
            return
        found = client.metrics(run_id, names=name)
    missing = set(name or ()) - {series.name for series in found.series}
    if missing:
        raise CommandError(f"the run {run_id} has no metric {', '.join(sorted(missing))} (yet)")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            series.name,
            str(series.total),
            str(series.step[-1]),
            *(f"{value:.6g}" for value in (series.value[-1], min(series.value), max(series.value))),
        )
        for series in found.series
        if series.value
    ]
    print_table(("metric", "points", "step", "newest", "least", "greatest"), rows)


def _each(runs: list[str], api_url: str, do: Callable[[PmaeClient, str], str]) -> None:
    """Apply ``do`` to every run and print its answer; one failure does not stop the rest.

    Raises:
        typer.Exit: with status 1, if one failed.
    """
    failed = False
    with connect(api_url) as client:
        for run in runs:
            try:
                typer.echo(do(client, find_run(client, run)))
            except PmaeError as error:
                typer.echo(f"pmae: {told(error)}", err=True)
                failed = True
    if failed:
        raise typer.Exit(1)


def _facts(run: Run) -> list[tuple[str, str | None]]:
    return [
        ("id", run.id),
        ("name", run.name),
        ("state", f"{run.state}, asked to stop" if run.cancel_requested else run.state),
        ("reason", run.reason),
        ("kind", run.kind),
        ("method", run.method),
        ("dataset", run.dataset),
        ("preset", run.preset),
        ("parent", run.parent_id),
        ("repeats", run.rerun_of),
        ("tags", ", ".join(run.tags)),
        ("notes", run.notes),
        ("pinned", "yes" if run.pinned else None),
        ("owner", run.owner),
        ("priority", str(run.priority)),
        ("stage", run.progress.stage if run.state == "running" else None),
        ("epoch", epochs(run)),
        ("metrics", ", ".join(_newest_metrics(run))),
        ("top1", share(run.top1)),
        ("worker", run.worker),
        ("attempt", f"{run.attempt} of {run.max_attempts}"),
        ("created", moment(run.created_at)),
        ("started", moment(run.started_at)),
        ("finished", moment(run.finished_at)),
        ("error", _error(run)),
    ]


def _newest_metrics(run: Run) -> list[str]:
    """Format the newest value of each metric, without those of single spectrum bands."""
    shown = {name: v for name, v in run.last_metrics.items() if name not in BAND_METRICS}
    return [f"{name} {value:.4g}" for name, value in shown.items()]


def _error(run: Run) -> str | None:
    """Format the run's error: code and message, or the code alone if the reason has the message."""
    if run.error is None:
        return None
    if run.error.message in (run.reason or ""):
        return run.error.code
    return f"{run.error.code}: {run.error.message}"
