"""The study's plots, as SVG: accuracy of each pretraining, by layer, and over its cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.study.records import Record, Results
from benchmarks.study.report import (
    DATASETS,
    PROBES,
    Probe,
    by_preset,
    find,
    relative_costs,
    short_name,
)

_COLOURS = {"pmae": "#0072b2", "mae": "#d55e00"}
_GREY = "#777777"
_OVER_COST = frozenset(
    {"pmae_0.1", "pmae_0.2", "mae_0.5", "mae_0.75", "mae_0.5_compute", "mae_0.75_compute"}
    | {"pmae_deep_decoder", "mae_deep_decoder"}
)
"""Those that differ in what they cost; the ablations cost what PMAE at 0.2 does."""


def write_plots(results: Results, folder: Path) -> None:
    """Draw every data set that has records: ``<data set>-<what>.svg``."""
    with mpl.rc_context():
        # The same file for the same figures: no random names of elements.
        mpl.rc("svg", hashsalt="pmae")
        mpl.rc("font", size=9)
        mpl.rc("axes.spines", top=False, right=False)
        for dataset, title in DATASETS.items():
            records = [record for record in results.records if record.dataset == dataset]
            if not records:
                continue
            groups = by_preset(records)
            _save(_accuracies(groups, title), folder / f"{dataset}-accuracy.svg")
            _save(_by_layer(groups, title), folder / f"{dataset}-layers.svg")
            costs = relative_costs(groups, results.costs)
            if costs:
                _save(_over_cost(groups, costs, title), folder / f"{dataset}-cost.svg")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight", facecolor="white")


def _accuracies(groups: dict[str, list[Record]], title: str) -> Figure:
    """A row for each pretraining, a dot for each seed, a bar for their mean."""
    figure = Figure(figsize=(9, 0.32 * len(groups) + 1.7), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True, sharex=True)
    for axis, probe in zip(axes, PROBES[:2], strict=True):
        for row, (_, runs) in enumerate(groups.items()):
            top1 = _percents(runs, probe, "encoder")
            colour = _COLOURS[runs[0].method]
            axis.plot(top1, [row] * len(top1), "o", color=colour, markersize=4, alpha=0.6)
            axis.plot([statistics.mean(top1)], [row], "|", color=colour, markersize=14, mew=2)
        for source, style in (("untrained_encoder", "--"), ("raw_pixels", ":")):
            base = [v for runs in groups.values() for v in _percents(runs, probe, source)]
            if base:
                label = source.replace("_", " ")
                axis.axvline(statistics.mean(base), color=_GREY, linestyle=style, label=label)
        axis.set_title(f"{title}: {probe.title}")
        axis.set_xlabel("top-1 on test, %")
    axes[0].set_yticks(range(len(groups)), [short_name(preset) for preset in groups])
    axes[0].invert_yaxis()
    # The left panel has the baselines of both.
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
    return figure


def _by_layer(groups: dict[str, list[Record]], title: str) -> Figure:
    """Accuracy after every block: PMAE and MAE at their defaults, with each decoder."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    styles = {"pmae_0.2": "-", "mae_0.75": "-", "pmae_deep_decoder": "--", "mae_deep_decoder": "--"}
    for axis, probe in zip(axes, PROBES[:2], strict=True):
        for preset, runs in groups.items():
            name = short_name(preset)
            if name in styles:
                _layer_line(axis, runs, probe, styles[name], name)
        axis.set_title(f"{title}: {probe.title}")
        axis.set_xlabel("block")
    axes[0].set_ylabel("top-1 on test, %")
    axes[1].legend(frameon=False)
    return figure


def _layer_line(axis: Axes, runs: Sequence[Record], probe: Probe, style: str, label: str) -> None:
    measured = [m for run in runs if (m := find(run, probe, "encoder")) and m.by_layer]
    if not measured:
        return
    layers = range(1, len(measured[0].by_layer) + 1)
    means = [100 * statistics.mean(m.by_layer[n - 1] for m in measured) for n in layers]
    axis.plot(layers, means, style, color=_COLOURS[runs[0].method], marker="o", label=label)
    axis.set_xticks(list(layers))


def _over_cost(groups: dict[str, list[Record]], costs: dict[str, float], title: str) -> Figure:
    """Accuracy over what the pretraining costs: equal epochs beside equal computing."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, probe in zip(axes, PROBES[:2], strict=True):
        for preset, runs in groups.items():
            if preset not in costs or short_name(preset) not in _OVER_COST:
                continue
            top1 = statistics.mean(_percents(runs, probe, "encoder"))
            axis.plot([costs[preset]], [top1], "o", color=_COLOURS[runs[0].method])
            place = (costs[preset], top1)
            axis.annotate(
                short_name(preset), place, xytext=(4, 2), textcoords="offset points", fontsize=7
            )
        axis.set_title(f"{title}: {probe.title}")
        axis.set_xlabel("processor time, PMAE's at 0.2 being 1")
        axis.margins(x=0.25)
    axes[0].set_ylabel("top-1 on test, %")
    return figure


def _percents(runs: Sequence[Record], probe: Probe, source: str) -> list[float]:
    return [100 * m.top1 for run in runs if (m := find(run, probe, source))]
