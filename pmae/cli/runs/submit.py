"""``pmae submit`` and ``pmae train``: run a preset or a spec file, with changes to its fields."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pmae.cli.options import LOCAL_API, ApiUrl, AsJson
from pmae.cli.output import print_json
from pmae.cli.runs.follow import watch_to_end
from pmae.cli.runs.preview import print_preview
from pmae.client import PmaeClient
from pmae.client.client import connect
from pmae.errors import SpecError
from pmae.presets import get_preset, is_preset
from pmae.schema import Run
from pmae.spec import EvaluateSpec, ExperimentSpec
from pmae.spec.changes import merge_patch, read_changes
from pmae.spec.run_spec import parse_spec, read_spec_file, read_spec_text

STANDARD_INPUT = "-"
_FILE_SUFFIXES = {".yaml", ".yml", ".json"}

Source = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="A preset, a YAML or JSON file, or - for standard input. Quote a preset's parameters: "
        "'paper?dataset=cifar10&ratio=0.2'.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set a field: masking.ratio=0.3. The value is YAML; null: the default. Repeatable.",
    ),
]
Watch = Annotated[bool, typer.Option("--watch", help="Follow the run to its end.")]
Priority = Annotated[
    int, typer.Option(min=-1000, max=1000, help="Runs of higher priority start first.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved spec and its cost; queue nothing.")
]
Name = Annotated[str | None, typer.Option(help="Name of the run.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Add a tag. Repeatable.")]


@dataclass(frozen=True)
class SpecSource:
    """Source of a spec: the name of a preset, or the fields of a file."""

    label: str
    preset: str | None
    fields: dict[str, Any]

    def changes(self, assignments: list[str] | None) -> dict[str, Any]:
        """Return the changes that ``--set`` asks for, as a merge patch.

        Raises:
            SpecError: a path that a spec of this kind does not have.
        """
        kind = EvaluateSpec if self.fields.get("kind") == "evaluate" else ExperimentSpec
        return read_changes(assignments or [], kind)


def read_source(source: str) -> SpecSource:
    """Read a spec's fields from a file or standard input, or note the name of a preset.

    The preset is not looked up here: the service may know others.

    Raises:
        SpecError: there is no such file, or it holds no object.
    """
    if source == STANDARD_INPUT:
        label = "standard input"
        return SpecSource(label, None, read_spec_text(sys.stdin.read(), label))
    path = Path(source)
    if not is_preset(source) and (path.exists() or path.suffix in _FILE_SUFFIXES):
        return SpecSource(source, None, read_spec_file(path))
    return SpecSource(source, source, {})


def submit(
    spec: Source,
    changes: Changes = None,
    name: Name = None,
    tag: Tags = None,
    priority: Priority = 0,
    watch: Watch = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Submit a run and print its id."""
    if dry_run and watch:
        raise typer.BadParameter(
            "with --dry-run there is no run to follow; expected one of the two",
            param_hint="--watch",
        )
    source = read_source(spec)
    patch = source.changes(changes)
    if name is not None:
        patch["name"] = name
    with connect(api_url) as client:
        if tag:
            patch["tags"] = [*_tags(client, source, patch), *tag]
        if source.preset is None:
            fields = merge_patch(source.fields, patch)
            parse_spec(fields, source.label)
        else:
            fields = patch
        if dry_run:
            print_preview(client.preview(fields, preset=source.preset), as_json=as_json)
            return
        run = client.submit(fields, preset=source.preset, priority=priority)
        announce(client, run, watch=watch, as_json=as_json)


def announce(client: PmaeClient, run: Run, *, watch: bool, as_json: bool) -> None:
    """Print the queued run, and follow it if ``watch`` is set.

    Raises:
        typer.Exit: if ``watch`` is set; its status says how the run ended.
    """
    if as_json:
        print_json(run)
    else:
        typer.echo(run.id)
    if watch:
        watch_to_end(client, run.id)


def train(
    spec: Source,
    run_dir: Annotated[Path, typer.Argument(help="Folder of the run; resumed if it exists.")],
    changes: Changes = None,
) -> None:
    """Train in this terminal, without a service."""
    source = read_source(spec)
    patch = source.changes(changes)
    if source.preset is None:
        fields = source.fields
    else:
        fields = get_preset(source.preset).spec.model_dump(mode="json", exclude_unset=True)
    fields = merge_patch(fields, patch)
    parse_spec(fields, source.label)
    with tempfile.TemporaryDirectory(prefix="pmae-") as folder:
        # A file outside the run's folder: the trainer writes the resolved spec.json there itself.
        file = Path(folder) / "spec.json"
        file.write_text(json.dumps(fields))
        command = [sys.executable, "-m", "pmae.train", str(run_dir), "--spec", str(file)]
        raise typer.Exit(subprocess.run(command, check=False).returncode)


def _tags(client: PmaeClient, source: SpecSource, patch: dict[str, Any]) -> list[str]:
    """Return the tags that ``--tag`` adds to; those of a preset come from the service."""
    tags = patch.get("tags", source.fields.get("tags"))
    if tags is None and source.preset is not None and "tags" not in patch:
        return list(client.preset(source.preset).spec.tags)
    if not isinstance(tags, list | None):
        raise SpecError("tags: --tag can only add to a list; expected for example tags=[a, b]")
    return tags or []
