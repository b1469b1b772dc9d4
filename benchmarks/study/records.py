"""Records of the study, one for each case and seed, kept as JSON."""

from __future__ import annotations

import hashlib
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from pmae.report.collect import run_events
from pmae.runs.events import EndEvent, EvaluationEvent, dump_json
from pmae.runs.layout import RunDir
from pmae.runtime.files import write_file
from pmae.spec import ExperimentSpec


@dataclass(frozen=True)
class Figure:
    """One evaluation of one run; accuracies from 0 to 1."""

    protocol: str
    features: str
    source: str
    label_fraction: float
    top1: float
    balanced_accuracy: float
    val_top1: float
    val_balanced_accuracy: float


@dataclass(frozen=True)
class Record:
    """Results of a finished run.

    Attributes:
        case: name of the case.
        seed: of the run.
        spec_sha256: of the resolved spec.
        dataset: name of the data set.
        epochs: of pretraining.
        figures: of all evaluations at its end.
    """

    case: str
    seed: int
    spec_sha256: str
    dataset: str
    epochs: int
    figures: list[Figure]


class Results:
    """The file of records, rewritten after each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        content = json.loads(path.read_bytes()) if path.is_file() else {"runs": [], "costs": {}}
        self.records = [
            Record(**run | {"figures": [Figure(**found) for found in run["figures"]]})
            for run in content["runs"]
        ]
        self.costs: dict[str, float] = content["costs"]
        """Processor time in seconds of a training step, by data set and method."""

    def has(self, case: str, spec: ExperimentSpec) -> bool:
        """True if a run of this case with exactly this resolved spec is recorded."""
        wanted = (case, spec_sha256(spec))
        return any((record.case, record.spec_sha256) == wanted for record in self.records)

    def of(self, case: str) -> list[Record]:
        """The runs of a case, by seed."""
        return [record for record in self.records if record.case == case]

    def add(self, record: Record) -> None:
        """Record a run, replacing an earlier one of the same case and seed."""
        which = (record.case, record.seed)
        others = [r for r in self.records if (r.case, r.seed) != which]
        self.records = sorted([*others, record], key=lambda r: (r.case, r.seed))
        self._write()

    def add_cost(self, name: str, seconds: float) -> None:
        """Record the cost of a training step in seconds."""
        self.costs = dict(sorted({**self.costs, name: round(seconds, 5)}.items()))
        self._write()

    def clear(self) -> None:
        """Discard all records and costs."""
        self.records, self.costs = [], {}

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # One line a run, so that a rerun changes only its own line.
        lines = ",\n".join(dump_json(asdict(record)) for record in self.records)
        text = f'{{"runs": [\n{lines}\n],\n"costs": {json.dumps(self.costs)}}}\n'
        write_file(self._path, text.encode())


def spec_sha256(spec: ExperimentSpec) -> str:
    """Digest of a resolved spec."""
    return hashlib.sha256(dump_json(spec.model_dump(mode="json")).encode()).hexdigest()


def read_record(run: RunDir, case: str, spec: ExperimentSpec) -> Record | None:
    """Read the record of the run in a folder; None if it has not ended."""
    evaluations: dict[str, EvaluationEvent] = {}
    ended = False
    for event in run_events(run):
        if isinstance(event, EvaluationEvent):
            evaluations[event.key] = event
        ended = ended or isinstance(event, EndEvent)
    if not ended:
        return None
    return Record(
        case=case,
        seed=spec.seed,
        spec_sha256=spec_sha256(spec),
        dataset=spec.dataset.name,
        epochs=spec.epochs,
        figures=[_figure(event) for event in evaluations.values()],
    )


def _figure(event: EvaluationEvent) -> Figure:
    details = event.details
    spec = details["spec"]
    return Figure(
        protocol=event.protocol,
        features=spec["features"],
        source=event.features,
        label_fraction=spec["label_fraction"],
        top1=round(event.top1, 5),
        balanced_accuracy=round(details["balanced_accuracy"], 5),
        val_top1=round(details["val_top1"], 5),
        val_balanced_accuracy=round(details["val_balanced_accuracy"], 5),
    )


def spread(values: list[float]) -> str:
    """Format mean and sample standard deviation in percent; empty without values."""
    if not values:
        return ""
    text = f"{100 * statistics.mean(values):.1f}"
    return text if len(values) == 1 else f"{text} ± {100 * statistics.stdev(values):.1f}"
