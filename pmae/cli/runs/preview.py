"""``pmae submit --dry-run``: print the resolved spec and its estimated cost."""

from __future__ import annotations

from datetime import timedelta

import typer
import yaml

from pmae.cli.output import print_facts, print_json, size
from pmae.schema.runs import Estimate, MeasuredSpeed, SubmitPreview


def print_preview(preview: SubmitPreview, *, as_json: bool) -> None:
    """Print the resolved spec to standard output, ready to be submitted; its cost to stderr."""
    if as_json:
        print_json(preview)
        return
    typer.echo(yaml.safe_dump(preview.spec.model_dump(mode="json"), sort_keys=False), nl=False)
    if preview.estimate is not None:
        print_facts(_facts(preview.estimate), to_stderr=True)
    for warning in preview.warnings:
        typer.echo(f"pmae: {warning}", err=True)


def _facts(estimate: Estimate) -> list[tuple[str, str | None]]:
    parameters = estimate.parameters
    total = parameters.encoder + parameters.decoder
    return [
        ("parameters", f"{total:,} ({parameters.encoder:,} of them the encoder's)"),
        ("memory", f"{size(estimate.memory_bytes.total)} on each device, without the images"),
        ("checkpoint", size(estimate.checkpoint_bytes)),
        ("images", _count(estimate.train_images)),
        ("steps", _count(estimate.steps)),
        ("pretraining", _duration(estimate.measured) if estimate.measured else None),
    ]


def _count(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _duration(measured: MeasuredSpeed) -> str:
    took = timedelta(seconds=round(measured.pretraining_seconds))
    return (
        f"{took} at {measured.epochs_per_minute:.3g} epochs a minute, as run {measured.run_id} had"
    )
