"""Commands about runs: which there are, what one is, and changing their state."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from pmae.cli.options import LOCAL_API, ApiUrl, AsJson
from pmae.cli.output import moment, print_facts, print_json, print_table, share
from pmae.cli.resolve import RunArgument, RunArguments, find_run
from pmae.client import PmaeClient
from pmae.client.environment import connect
from pmae.errors import CommandError, PmaeError
from pmae.schema import RUN_STATES, Run, RunPage, RunState, RunSummary

LIST_COLUMNS = (
    "id", "state", "name", "method", "dataset", "epoch", "loss", "top1", "tags", "owner", "created",
)  # fmt: skip
_PAGE = 500


def list_runs(
    state: Annotated[
        list[str] | None,
        typer.Option(help=f"Only runs in this state: {', '.join(RUN_STATES)}. Repeatable."),
    ] = None,
    method: Annotated[str | None, typer.Option(help="Only this method: pmae or mae.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only runs with this tag. Repeatable: with all.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Only runs whose name or notes contain it.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Only runs within a bound: 'val_loss<0.5'. Repeatable.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="created, name, top1, finished, priority or metric:NAME; falling."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=_PAGE, help="Most runs.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="All, without a limit.")] = False,
    ids: Annotated[bool, typer.Option("--ids", "-q", help="Print only ids.")] = False,
    as_json: AsJson = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """List runs, newest first."""
    items: list[RunSummary] = []
    cursor = None
    with connect(api_url) as client:
        while True:
            page = client.runs(
                state=_states(state),
                method=method,
                dataset=dataset,
                tag=tag,
                text=text,
                metric=metric,
                sort=sort,
                limit=_PAGE if everything else limit,
                cursor=cursor,
            )
            items += page.items
            cursor = page.next_cursor
            if cursor is None or not everything:
                break
    if as_json:
        print_json(RunPage(items=items, next_cursor=cursor))
    elif ids:
        for run in items:
            typer.echo(run.id)
    else:
        print_table(LIST_COLUMNS, [_row(run) for run in items])
        if cursor is not None:
            typer.echo(f"pmae: the first {len(items)}; --all lists the others too", err=True)


def show(run: RunArgument, as_json: AsJson = False, api_url: ApiUrl = LOCAL_API) -> None:
    """Show one run: what it is, how far it is, what it has found."""
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
    """Stop runs; a running one is cancelled when its process is gone."""

    def one(client: PmaeClient, run_id: str) -> str:
        run = client.cancel(run_id)
        stopped = run.state == "cancelled"
        return f"{run.id} {'is cancelled' if stopped else 'stops as soon as its process is gone'}"

    _each(runs, api_url, one)


def resume(runs: RunArguments, api_url: ApiUrl = LOCAL_API) -> None:
    """Queue failed or cancelled runs again; each goes on from its newest valid checkpoint."""
    _each(runs, api_url, lambda client, run_id: f"{client.resume(run_id).id} is queued")


def rerun(runs: RunArguments, api_url: ApiUrl = LOCAL_API) -> None:
    """Queue new runs with exactly the specs of these, and print their ids."""
    _each(runs, api_url, lambda client, run_id: client.rerun(run_id).id)


def delete(
    runs: RunArguments,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Delete runs that have ended, with their checkpoints. On a terminal it asks first."""
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
    """Print a run's metrics: a line each, or with --csv every point."""
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json are two forms; valid is one of them")
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
    """Do a thing to each run; one that refuses keeps the others from nothing.

    Raises:
        typer.Exit: of status 1, if one has refused.
    """
    failed = False
    with connect(api_url) as client:
        for run in runs:
            try:
                typer.echo(do(client, find_run(client, run)))
            except PmaeError as error:
                typer.echo(f"pmae: {error}", err=True)
                failed = True
    if failed:
        raise typer.Exit(1)


def _states(given: list[str] | None) -> list[RunState]:
    wanted = [part for text in given or () for part in text.split(",") if part]
    unknown = [part for part in wanted if part not in RUN_STATES]
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]!r} is no state; valid are {', '.join(RUN_STATES)}", param_hint="--state"
        )
    return [state for state in RUN_STATES if state in wanted]


def _row(run: RunSummary) -> tuple[str, ...]:
    loss = run.last_metrics.get("loss")
    return (
        run.id,
        run.state,
        run.name,
        run.method,
        run.dataset,
        _epochs(run),
        "" if loss is None else f"{loss:.4f}",
        share(run.top1),
        ",".join(run.tags),
        run.owner or "",
        moment(run.created_at),
    )


def _epochs(run: RunSummary) -> str:
    progress = run.progress
    if progress.epoch is None or progress.total_epochs is None:
        return ""
    return f"{progress.epoch}/{progress.total_epochs}"


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
        ("stage", run.progress.stage),
        ("epoch", _epochs(run)),
        ("metrics", ", ".join(f"{name} {value:.4g}" for name, value in run.last_metrics.items())),
        ("top1", share(run.top1)),
        ("worker", run.worker),
        ("attempt", f"{run.attempt} of {run.max_attempts}"),
        ("created", moment(run.created_at)),
        ("started", moment(run.started_at)),
        ("finished", moment(run.finished_at)),
        ("error", f"{run.error.code}: {run.error.message}" if run.error else None),
    ]
