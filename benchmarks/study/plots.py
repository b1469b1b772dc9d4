"""Draw the study's plots as SVG: accuracy of each finalist, and by fraction of labels."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.study.decide import by_seed, find, judged
from benchmarks.study.design import DATASETS, LABEL_FRACTIONS, StudyDataset
from benchmarks.study.plan import final_name, finalists
from benchmarks.study.records import Results

_COLOURS = {"pmae": "#0072b2", "mae": "#d55e00"}
_GREY = "#777777"


def write_plots(results: Results, folder: Path) -> None:
    """Draw the plots of each data set with finalists: ``<data set>-{accuracy,labels}.svg``."""
    with mpl.rc_context():
        # A fixed salt instead of random element names makes the file reproducible.
        mpl.rc("svg", hashsalt="pmae")
        mpl.rc("font", size=9)
        mpl.rc("axes.spines", top=False, right=False)
        for dataset in DATASETS:
            if by_seed(results, dataset, "pmae"):
                _save(_accuracies(results, dataset), folder / f"{dataset.name}-accuracy.svg")
                _save(_over_labels(results, dataset), folder / f"{dataset.name}-labels.svg")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight", facecolor="white")


def _axis_title(dataset: StudyDataset) -> str:
    what = "balanced accuracy" if dataset.figure == "balanced_accuracy" else "accuracy"
    return f"{what} on test, %"


def _accuracies(results: Results, dataset: StudyDataset) -> Figure:
    """A row for each finalist, a dot for each seed, a bar for their mean."""
    shown = [
        (finalist, 100 * value)
        for finalist in finalists(dataset, long=True)
        for value in by_seed(results, dataset, finalist.name).values()
    ]
    titles = list(dict.fromkeys(finalist.title for finalist, _ in shown))
    figure = Figure(figsize=(7, 0.32 * len(titles) + 1.2), layout="constrained")
    axes = figure.subplots()
    for finalist, value in shown:
        colour = _COLOURS[finalist.method]
        axes.plot([value], [titles.index(finalist.title)], "o", color=colour, ms=4, alpha=0.6)
    for title in titles:
        mean = statistics.mean(value for finalist, value in shown if finalist.title == title)
        axes.plot([mean], [titles.index(title)], "k|", markersize=14)
    untrained = by_seed(results, dataset, "untrained").values()
    if untrained:
        level = 100 * statistics.mean(untrained)
        axes.axvline(level, color=_GREY, linestyle="--", label="untrained encoder")
        axes.legend(frameon=False, loc="best")
    axes.set_yticks(range(len(titles)), titles)
    axes.invert_yaxis()
    axes.set_title(f"{dataset.title}: linear probe, mean token")
    axes.set_xlabel(_axis_title(dataset))
    return figure


def _over_labels(results: Results, dataset: StudyDataset) -> Figure:
    """Means over the seeds for each fraction of the labels."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for finalist in finalists(dataset, long=False):
        _line(axes, results, dataset, finalist.name, "encoder", finalist.title)
    _line(axes, results, dataset, "pmae", "untrained_encoder", "untrained encoder")
    axes.set_xscale("log")
    axes.set_xticks(LABEL_FRACTIONS, [f"{100 * f:g} %" for f in LABEL_FRACTIONS])
    axes.minorticks_off()
    axes.set_xlabel("labels that the probe is trained on")
    axes.set_ylabel(_axis_title(dataset))
    axes.set_title(f"{dataset.title}: linear probe, mean token")
    axes.legend(frameon=False, fontsize=7)
    return figure


def _line(
    axes: mpl.axes.Axes,
    results: Results,
    dataset: StudyDataset,
    finalist: str,
    source: str,
    label: str,
) -> None:
    points = []
    for fraction in LABEL_FRACTIONS:
        found = (
            find(record, "linear", "mean", source, fraction)
            for record in results.of(final_name(dataset, finalist))
        )
        values = [100 * judged(figure, dataset) for figure in found if figure]
        if values:
            points.append((fraction, statistics.mean(values)))
    style = "--" if source != "encoder" else "-"
    if points:
        axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3, label=label)
