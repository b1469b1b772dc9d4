"""Collect the evaluations of fully trained encoders from a folder of runs. Imports no torch.

Included are a pretraining's evaluations at its end, on its own data set, and those of later runs
that evaluate its last checkpoint with its seed, which gives the same figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pmae.errors import SpecError
from pmae.runs.events import EndEvent, EvaluationEvent, Event, dump_json, intact_events
from pmae.runs.layout import RunDir
from pmae.spec import RUN_SPEC, EvaluateSpec, ExperimentSpec, MaskingSpec, RunSpec, resolve

_FOR_PEOPLE = frozenset(
    {"seed", "name", "tags", "notes", "evaluations", "checkpoint", "log_every_steps"}
    | {"validate_every_epochs", "threads", "monitor"}
)
"""Fields of a spec that do not make it another configuration."""


@dataclass(frozen=True)
class Measured:
    """One evaluation at the end of one run; accuracies from 0 to 1."""

    protocol: str
    method: str
    masking: MaskingSpec
    dataset: str
    configuration: str
    seed: int
    top1: float
    val_top1: float | None
    best_epoch_top1: float | None = None
    """The best test accuracy over the epochs of a probe; None if it was not recorded."""


def read_runs(folder: Path) -> Iterator[Measured]:
    """Read the evaluations of trained encoders by runs in a folder and its sub-folders.

    Runs that have not ended are skipped, and so are evaluations whose pretraining is not in the
    same folder.
    """
    for path in sorted(folder.rglob("spec.json")):
        run = RunDir(path.parent)
        spec = _read_spec(run)
        if isinstance(spec, ExperimentSpec):
            yield from _measured(run, spec)
        elif spec is not None:
            parent = RunDir(run.path.parent / spec.parent_id)
            pretrained = _read_spec(parent)
            if isinstance(pretrained, ExperimentSpec) and _is_of_its_end(spec, parent, pretrained):
                yield from _measured(run, pretrained)


def _read_spec(run: RunDir) -> RunSpec | None:
    """Read a run's spec, resolved so that equal specs of two versions compare equal."""
    try:
        spec = RUN_SPEC.validate_json(run.spec.read_bytes())
    except (OSError, ValidationError):
        return None
    with suppress(SpecError):  # figures count even if this version would not run the spec
        return spec if isinstance(spec, EvaluateSpec) else resolve(spec)
    return spec


def _is_of_its_end(spec: EvaluateSpec, parent: RunDir, pretrained: ExperimentSpec) -> bool:
    steps = {event.step for event in run_events(parent) if isinstance(event, EndEvent)}
    step = int(spec.checkpoint_name.rpartition("-")[2])
    return step in steps and spec.seed in (None, pretrained.seed)


def _measured(run: RunDir, spec: ExperimentSpec) -> Iterator[Measured]:
    """The evaluations by ``run`` of an encoder that was pretrained by ``spec``."""
    configuration = dump_json(spec.model_dump(mode="json", exclude=set(_FOR_PEOPLE)))
    final = {
        event.key: event
        for event in run_events(run)
        if isinstance(event, EvaluationEvent) and "@" not in event.key
    }
    for event in final.values():
        if event.key.partition("/")[0] != event.protocol or event.features != "encoder":
            continue
        evaluation = event.details.get("spec", {})
        if evaluation.get("dataset") is not None:
            continue
        yield Measured(
            protocol=event.protocol,
            method=spec.method,
            masking=spec.masking,
            dataset=spec.dataset.name,
            configuration=configuration + dump_json(_recipe(evaluation)),
            seed=spec.seed,
            top1=event.top1,
            val_top1=event.details.get("val_top1"),
            best_epoch_top1=event.details.get("best_epoch", {}).get("top1"),
        )


def _recipe(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The fields of an evaluation that determine its figure."""
    others = {"baselines", "at_epochs", "layers"}
    return {name: value for name, value in evaluation.items() if name not in others}


def run_events(run: RunDir) -> Iterator[Event]:
    """Read the events of a run, of all leases, oldest first."""
    for lease in run.leases():
        if lease.events.is_file():
            yield from intact_events(lease.events.read_bytes())
