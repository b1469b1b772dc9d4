"""``pmae evaluate``: evaluate an existing checkpoint in a run of its own."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pmae.cli.options import LOCAL_API, ApiUrl, AsJson
from pmae.cli.resolve import CheckpointArgument, find_checkpoint
from pmae.cli.runs.submit import Changes, Name, Priority, Tags, Watch, announce
from pmae.client.client import connect
from pmae.spec import FinetuneSpec, KnnSpec, LinearProbeSpec, MlpProbeSpec, SpecModel
from pmae.spec.changes import merge_patch, read_changes

PROTOCOLS: dict[str, type[SpecModel]] = {
    "linear": LinearProbeSpec,
    "mlp": MlpProbeSpec,
    "knn": KnnSpec,
    "finetune": FinetuneSpec,
}


def evaluate(
    checkpoint: CheckpointArgument,
    protocol: Annotated[
        list[str], typer.Option(help=f"{', '.join(PROTOCOLS)}. Repeatable: run in this order.")
    ],
    changes: Changes = None,
    name: Name = None,
    tag: Tags = None,
    priority: Priority = 0,
    watch: Watch = False,
    as_json: AsJson = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Queue a run that evaluates a kept checkpoint, and print its id.

    --set changes the fields of each evaluation: features=mean, layers=all, dataset.name=digits.
    """
    unknown = [one for one in protocol if one not in PROTOCOLS]
    if unknown:
        raise typer.BadParameter(
            f"unknown protocol {unknown[0]!r}; expected one of {', '.join(PROTOCOLS)}",
            param_hint="--protocol",
        )
    body: dict[str, Any] = {
        "evaluations": [
            merge_patch({"protocol": one}, read_changes(changes or [], PROTOCOLS[one]))
            for one in protocol
        ],
        "tags": tag or [],
    }
    if name is not None:
        body["name"] = name
    with connect(api_url) as client:
        run = client.evaluate(find_checkpoint(client, checkpoint), body, priority=priority)
        announce(client, run, watch=watch, as_json=as_json)
