"""What the study has measured: a record for each preset and seed, kept as JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pmae.events import EndEvent, EvaluationEvent, dump_json
from pmae.files import write_file
from pmae.layout import RunDir
from pmae.measured import run_events
from pmae.spec import ExperimentSpec


@dataclass(frozen=True)
class Measured:
    """One evaluation of one run; accuracies on test (``val_top1``: on validation) from 0 to 1."""

    key: str
    protocol: str
    recipe: str | None
    features: str
    source: str
    top1: float
    val_top1: float
    by_layer: list[float]
    by_layer_val: list[float]


@dataclass(frozen=True)
class Record:
    """What a run came to.

    Attributes:
        preset: its name.
        seed: of the run.
        spec_sha256: of the resolved spec.
        method: pmae or mae.
        dataset: its name.
        epochs: of pretraining.
        evaluations: all of them, at the end.
    """

    preset: str
    seed: int
    spec_sha256: str
    method: str
    dataset: str
    epochs: int
    evaluations: list[Measured]


class Results:
    """The file of records, written anew after each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        content = json.loads(path.read_bytes()) if path.is_file() else {"runs": [], "costs": {}}
        self.records = [
            Record(**run | {"evaluations": [Measured(**m) for m in run["evaluations"]]})
            for run in content["runs"]
        ]
        self.costs: dict[str, float] = content["costs"]
        """By preset: seconds of processor time of a step of pretraining."""

    def has(self, spec: ExperimentSpec) -> bool:
        """Whether a run of exactly this resolved spec is recorded."""
        return spec_sha256(spec) in {record.spec_sha256 for record in self.records}

    def add(self, record: Record) -> None:
        """Record a run in the place of an earlier one of the same preset and seed."""
        which = (record.preset, record.seed)
        others = [r for r in self.records if (r.preset, r.seed) != which]
        self.records = sorted([*others, record], key=lambda r: (r.preset, r.seed))
        self._write()

    def add_cost(self, preset: str, seconds: float) -> None:
        """Record what a step costs."""
        self.costs = dict(sorted({**self.costs, preset: round(seconds, 5)}.items()))
        self._write()

    def clear(self) -> None:
        """Forget everything."""
        self.records, self.costs = [], {}

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # One line a run: a rerun changes its own lines only.
        lines = ",\n".join(dump_json(asdict(record)) for record in self.records)
        text = f'{{"runs": [\n{lines}\n],\n"costs": {json.dumps(self.costs)}}}\n'
        write_file(self._path, text.encode())


def spec_sha256(spec: ExperimentSpec) -> str:
    """Digest of a resolved spec."""
    return hashlib.sha256(dump_json(spec.model_dump(mode="json")).encode()).hexdigest()


def read_record(run: RunDir, preset: str, spec: ExperimentSpec) -> Record | None:
    """What the run in a folder came to; None if it has not ended."""
    evaluations: dict[str, EvaluationEvent] = {}
    ended = False
    for event in run_events(run):
        if isinstance(event, EvaluationEvent):
            evaluations[event.key] = event
        ended = ended or isinstance(event, EndEvent)
    if not ended:
        return None
    return Record(
        preset=preset,
        seed=spec.seed,
        spec_sha256=spec_sha256(spec),
        method=spec.method,
        dataset=spec.dataset.name,
        epochs=spec.epochs,
        evaluations=[_measured(event) for event in evaluations.values()],
    )


def _measured(event: EvaluationEvent) -> Measured:
    details = event.details
    spec = details["spec"]
    layers = details.get("by_layer") or []
    return Measured(
        key=event.key,
        protocol=event.protocol,
        recipe=spec.get("recipe"),
        features=spec["features"],
        source=event.features,
        top1=round(event.top1, 5),
        val_top1=round(details["val_top1"], 5),
        by_layer=[round(layer["top1"], 5) for layer in layers],
        by_layer_val=[round(layer["val_top1"], 5) for layer in layers],
    )
