"""``pmae change`` and ``pmae history``: edit a run's labels, and list what happened to it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pmae.cli.options import LOCAL_API, ApiUrl, AsJson
from pmae.cli.output import print_json, print_table
from pmae.cli.resolve import RunArgument, find_run
from pmae.client.client import connect


def change(
    run: RunArgument,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="One more tag. Repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="A tag to remove. Repeatable.")] = None,
    notes: Annotated[str | None, typer.Option(help="New notes.")] = None,
    pinned: Annotated[
        bool | None, typer.Option("--pin/--unpin", help="A pinned run cannot be deleted.")
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            min=-1000, max=1000, help="Priority of a queued run: higher ones start first."
        ),
    ] = None,
    as_json: AsJson = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Change a run's name, tags, notes, pin or priority; its spec never changes."""
    wanted: dict[str, Any] = {
        "name": name, "notes": notes, "pinned": pinned, "priority": priority
    }  # fmt: skip
    changed = {field: value for field, value in wanted.items() if value is not None}
    if not (changed or tag or untag):
        raise typer.BadParameter(
            "there is nothing to change; expected at least one of --name, --tag, --untag, --notes, "
            "--pin, --unpin and --priority"
        )
    with connect(api_url) as client:
        run_id = find_run(client, run)
        if tag or untag:
            tags = dict.fromkeys([*client.run(run_id).tags, *(tag or [])])
            changed["tags"] = [one for one in tags if one not in (untag or [])]
        found = client.change(run_id, changed)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{run_id} is changed")


def history(run: RunArgument, as_json: AsJson = False, api_url: ApiUrl = LOCAL_API) -> None:
    """List what happened to a run and who did it, oldest first."""
    with connect(api_url) as client:
        found = client.history(find_run(client, run))
    if as_json:
        print_json(found)
        return
    rows = [(entry.at, entry.actor, entry.type, entry.message) for entry in found.items]
    print_table(("when", "who", "what", "message"), rows, flexible=("message",))
