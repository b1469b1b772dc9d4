"""``pmae queue``, ``pmae workers`` and ``pmae status``: show the state of the service."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from pmae.cli.options import LOCAL_API, ApiUrl, AsJson
from pmae.cli.output import print_json, print_table
from pmae.client.client import connect
from pmae.schema import WorkerView


def queue(as_json: AsJson = False, api_url: ApiUrl = LOCAL_API) -> None:
    """List the queued runs in starting order, each with why it waits."""
    with connect(api_url) as client:
        found = client.queue()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            str(run.position),
            run.run_id,
            run.name,
            run.kind,
            str(run.devices),
            str(run.priority),
            run.queued_at,
            run.waits,
        )
        for run in found.items
    ]
    columns = ("position", "id", "name", "kind", "devices", "priority", "queued", "why it waits")
    spare = ("devices", "priority", "queued", "kind")
    print_table(columns, rows, flexible=("name", "why it waits"), spare=spare)
    if found.total > len(found.items):
        typer.echo(f"pmae: first {len(found.items)} of {found.total} queued runs", err=True)


def workers(as_json: AsJson = False, api_url: ApiUrl = LOCAL_API) -> None:
    """List the workers that are up, each with its current run."""
    with connect(api_url) as client:
        found = client.workers()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            worker.name,
            worker.host,
            ",".join(worker.kinds),
            str(worker.devices),
            _doing(worker),
            f"{(datetime.now(UTC) - worker.last_seen_at).total_seconds():.0f} s ago",
        )
        for worker in found
    ]
    columns = ("name", "host", "takes", "devices", "doing", "heard of")
    print_table(columns, rows, flexible=("doing",), spare=("host", "devices"))
    if not found:
        typer.echo("pmae: no worker is up", err=True)


def status(as_json: AsJson = False, api_url: ApiUrl = LOCAL_API) -> None:
    """Check that the service is ready; exit status 1 if it is not."""
    with connect(api_url) as client:
        found = client.ready()
        # Callers without a key see no check by name, and may not list workers.
        working = client.workers() if found.checks.get("database") == "ok" else None
    if as_json:
        print_json(found)
    else:
        typer.echo("ready" if found.ready else "not ready")
        for name, result in found.checks.items():
            typer.echo(f"{name}: {result}")
    if working is not None and all(worker.draining for worker in working):
        which = "every worker is being drained" if working else "no worker is up"
        typer.echo(f"pmae: {which}; queued runs wait", err=True)
    if not found.ready:
        raise typer.Exit(1)


def _doing(worker: WorkerView) -> str:
    runs = f"run {worker.run_id}" if worker.run_id else "nothing"
    return f"{runs}, draining" if worker.draining else runs
