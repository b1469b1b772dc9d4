"""What the runs in a folder have measured of encoders whose pretraining has ended.

A pretraining counts for what it measured at its end, on its own data set. So does a later run that
evaluates its last checkpoint with the pretraining's seed, since that gives the figures that the
pretraining itself would have given. Imports no torch.
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
"""What of a spec does not decide what is compared."""


@dataclass(frozen=True)
class Measured:
    """One evaluation at the end of one run; figures from 0 to 1."""

    protocol: str
    method: str
    masking: MaskingSpec
    dataset: str
    configuration: str
    seed: int
    top1: float
    val_top1: float | None
    best_epoch_top1: float | None = None
    """The best test figure over the epochs of a probe; None where it was not recorded."""


def read_runs(folder: Path) -> Iterator[Measured]:
    """What the runs in a folder, and in folders below, have measured of trained encoders.

    Runs that have not ended measure nothing yet; a folder that holds no run is passed over, and so
    is an evaluation whose pretraining does not lie beside it.
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
    """With everything written out: alike specs of two versions are then the same."""
    try:
        spec = RUN_SPEC.validate_json(run.spec.read_bytes())
    except (OSError, ValidationError):
        return None
    with suppress(SpecError):  # that this version would not run it takes no figure away
        return spec if isinstance(spec, EvaluateSpec) else resolve(spec)
    return spec


def _is_of_its_end(spec: EvaluateSpec, parent: RunDir, pretrained: ExperimentSpec) -> bool:
    steps = {event.step for event in run_events(parent) if isinstance(event, EndEvent)}
    step = int(spec.checkpoint_name.rpartition("-")[2])
    return step in steps and spec.seed in (None, pretrained.seed)


def _measured(run: RunDir, spec: ExperimentSpec) -> Iterator[Measured]:
    """What ``run`` has measured of what the pretraining ``spec`` made."""
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
    """What of an evaluation decides its figure."""
    others = {"baselines", "at_epochs", "layers"}
    return {name: value for name, value in evaluation.items() if name not in others}


def run_events(run: RunDir) -> Iterator[Event]:
    """What the processes of a run have told, all leases', oldest first."""
    for lease in run.leases():
        if lease.events.is_file():
            yield from intact_events(lease.events.read_bytes())
