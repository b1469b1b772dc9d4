"""The study's tables, from what is recorded."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.study.records import Measured, Record, Results
from pmae.files import write_file
from pmae.presets.study import STUDY_PRESETS


@dataclass(frozen=True)
class Probe:
    """A column: which evaluation it shows."""

    protocol: str
    recipe: str | None
    features: str
    title: str


PROBES = (
    Probe("linear", "cached", "cls", "linear, CLS"),
    Probe("linear", "cached", "mean", "linear, mean"),
    Probe("linear", "paper", "cls", "paper's recipe, CLS"),
    Probe("linear", "paper", "mean", "paper's recipe, mean"),
    Probe("knn", None, "cls", "k-NN, CLS"),
)
DATASETS = {"digits": "Digits", "fashion_mnist": "Fashion-MNIST, 10,000 images"}
_SOURCES = {"untrained_encoder": "untrained encoder", "raw_pixels": "raw pixels"}


def write_tables(results: Results, path: Path) -> None:
    """Write the tables of all that is recorded, as Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, ("\n".join(_document(results)) + "\n").encode())


def _document(results: Results) -> Iterator[str]:
    yield "# The study's figures"
    yield ""
    yield (
        "Written by `make study`; what they mean stands in [the study](../study.md). Top-1 in "
        "percent on the test split, mean ± sample standard deviation over the seeds. Cost: the "
        "processor time of the whole pretraining, PMAE's at 0.2 being 1."
    )
    for dataset, title in DATASETS.items():
        records = [record for record in results.records if record.dataset == dataset]
        if records:
            groups = by_preset(records)
            yield from ("", f"## {title}", "")
            yield from _probes(groups, results.costs)
            yield from _layers(groups)


def _probes(groups: dict[str, list[Record]], costs: dict[str, float]) -> Iterator[str]:
    every = [record for runs in groups.values() for record in runs]
    columns = [probe for probe in PROBES if any(find(r, probe, "encoder") for r in every)]
    relative = relative_costs(groups, costs)
    yield _row("pretraining", "seeds", "epochs", "cost", *(probe.title for probe in columns))
    yield _row(*["---"] * (4 + len(columns)))
    for preset, runs in groups.items():
        cost = f"{relative[preset]:.2f}" if preset in relative else ""
        cells = (_cell(runs, probe, "encoder") for probe in columns)
        yield _row(short_name(preset), str(len(runs)), str(runs[0].epochs), cost, *cells)
    for source, name in _SOURCES.items():
        runs = [run for run in every if any(m.source == source for m in run.evaluations)]
        if runs:
            yield _row(name, str(len(runs)), "", "", *(_cell(runs, p, source) for p in columns))


def _layers(groups: dict[str, list[Record]]) -> Iterator[str]:
    for probe in PROBES[:2]:
        measured = {
            preset: [m for run in runs if (m := find(run, probe, "encoder")) and m.by_layer]
            for preset, runs in groups.items()
        }
        depth = max((len(m.by_layer) for found in measured.values() for m in found), default=0)
        if not depth:
            continue
        yield ""
        yield f"By layer, {probe.title}; `chosen` is the layer that is best on validation."
        yield ""
        yield _row("pretraining", *(f"block {n + 1}" for n in range(depth)), "chosen")
        yield _row(*["---"] * (depth + 2))
        for preset, found in measured.items():
            layers = [spread([m.by_layer[n] for m in found]) for n in range(depth)]
            yield _row(short_name(preset), *layers, spread([chosen_layer(m) for m in found]))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(runs: Sequence[Record], probe: Probe, source: str) -> str:
    return spread([m.top1 for run in runs if (m := find(run, probe, source))])


def spread(shares: Sequence[float]) -> str:
    """Mean and sample standard deviation in percent; empty without any."""
    if not shares:
        return ""
    text = f"{100 * statistics.mean(shares):.1f}"
    return text if len(shares) == 1 else f"{text} ± {100 * statistics.stdev(shares):.1f}"


def by_preset(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs of each preset, in the order of the presets."""
    groups = {p.name: [r for r in records if r.preset == p.name] for p in STUDY_PRESETS}
    return {preset: runs for preset, runs in groups.items() if runs}


def short_name(preset: str) -> str:
    """A preset's name without what all of a data set share: ``pmae_0.2``."""
    return next(
        preset.removeprefix(p) for name in DATASETS if preset.startswith(p := f"study_{name}_")
    )


def relative_costs(groups: dict[str, list[Record]], costs: dict[str, float]) -> dict[str, float]:
    """By preset: processor time of the pretraining over that of PMAE at 0.2."""
    total = {
        preset: costs[preset] * runs[0].epochs for preset, runs in groups.items() if preset in costs
    }
    reference = next((total[p] for p in total if short_name(p) == "pmae_0.2"), None)
    return {} if reference is None else {p: value / reference for p, value in total.items()}


def find(record: Record, probe: Probe, source: str) -> Measured | None:
    """The evaluation of a run that a column shows."""
    wanted = (probe.protocol, probe.recipe, probe.features, source)
    for m in record.evaluations:
        if (m.protocol, m.recipe, m.features, m.source) == wanted:
            return m
    return None


def chosen_layer(measured: Measured) -> float:
    """Test accuracy of the layer that is best on validation, the last of equal ones."""
    layers = list(zip(measured.by_layer_val, measured.by_layer, strict=True))
    return max(reversed(layers), key=lambda layer: layer[0])[1]
