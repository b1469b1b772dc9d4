"""Write the study's tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.study.decide import Comparison, compare, find, judged
from benchmarks.study.design import BASE_LR, DATASETS, LEARNING_RATES, RATIOS, Choice, StudyDataset
from benchmarks.study.plan import choose, final_name, finalists, tuning_name
from benchmarks.study.records import Results, spread
from pmae.runtime.files import write_file


@dataclass(frozen=True)
class Column:
    """A column of the tables: one evaluation."""

    title: str
    protocol: str
    features: str
    fraction: float


COLUMNS = (
    Column("linear, mean", "linear", "mean", 1.0),
    Column("10 % of labels", "linear", "mean", 0.1),
    Column("1 % of labels", "linear", "mean", 0.01),
    Column("linear, CLS", "linear", "cls", 1.0),
    Column("k-NN, mean", "knn", "mean", 1.0),
    Column("fine-tuned", "finetune", "mean", 1.0),
)
CONTROLS = {"untrained_encoder": "untrained encoder", "raw_pixels": "raw pixels"}


def write_tables(results: Results, path: Path) -> None:
    """Write the tables of all recorded results."""
    write_file(path, ("\n".join(_tables(results)) + "\n").encode())


def _tables(results: Results) -> Iterator[str]:
    yield "# Tables of the study"
    yield ""
    yield (
        "Written by `make study`. Accuracy on test in percent (ELPV: balanced accuracy): mean and "
        "sample standard deviation over the seeds. [study.md](../study.md) says what was compared, "
        "by which rule, and what came out."
    )
    for dataset in DATASETS:
        if any(record.dataset == dataset.name for record in results.records):
            yield from ("", f"## {dataset.title}", "")
            yield from _tuning(results, dataset)
            yield from _finalists(results, dataset)
            yield from _comparisons(compare(results, dataset))


def _tuning(results: Results, dataset: StudyDataset) -> Iterator[str]:
    yield "Chosen on validation (linear probe, mean token):"
    yield ""
    yield row("method", "ratio", "learning rate for 256", "validation")
    yield row(*["---"] * 4)
    for method, ratios in RATIOS.items():
        chosen = choose(results, dataset, method)
        every = [Choice(ratio, BASE_LR) for ratio in ratios]
        if chosen:
            every += [Choice(chosen.ratio, lr) for lr in LEARNING_RATES]
        for choice in dict.fromkeys(every):
            records = results.of(tuning_name(dataset, method, choice))
            values = [getattr(r.figures[0], f"val_{dataset.figure}") for r in records]
            mark = " (chosen)" if choice == chosen else ""
            yield row(method, f"{choice.ratio}{mark}", f"{choice.base_lr:g}", spread(values))
    yield ""


def _finalists(results: Results, dataset: StudyDataset) -> Iterator[str]:
    yield row("pretraining", "seeds", "epochs", *(column.title for column in COLUMNS))
    yield row(*["---"] * (3 + len(COLUMNS)))
    for finalist in finalists(dataset, long=True):
        records = results.of(final_name(dataset, finalist.name))
        if records:
            cells = _cells(results, dataset, finalist.name, "encoder")
            yield row(finalist.title, str(len(records)), str(records[0].epochs), *cells)
    controls = results.of(final_name(dataset, "pmae"))
    for source, title in CONTROLS.items():
        if controls:
            cells = _cells(results, dataset, "pmae", source)
            yield row(title, str(len(controls)), "", *cells)
    yield ""


def _cells(results: Results, dataset: StudyDataset, finalist: str, source: str) -> Iterator[str]:
    for column in COLUMNS:
        features = "any" if source == "raw_pixels" else column.features
        if source == "raw_pixels" and column.features == "cls":
            yield ""
            continue
        found = (
            find(record, column.protocol, features, source, column.fraction)
            for record in results.of(final_name(dataset, finalist))
        )
        yield spread([judged(figure, dataset) for figure in found if figure])


def _comparisons(comparisons: list[Comparison]) -> Iterator[str]:
    yield row("comparison", "difference, points", "95 % interval", "p (Holm)", "ahead")
    yield row(*["---"] * 5)
    for found in comparisons:
        yield row(
            f"{found.first} - {found.second}",
            f"{found.difference:+.1f}",
            f"{found.low:+.1f} to {found.high:+.1f}",
            f"{found.p:.3f}",
            found.ahead or "not told apart",
        )


def row(*cells: str) -> str:
    """Format a row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
