"""What the README's figures come from: ``make bench``.

    python -m benchmarks.run               # all of them
    python -m benchmarks.run probe knn     # only these; the others stay as they were recorded

Ours and a peer run in turn, several times each; the table gives medians and their ratio. One
thread for the input pipeline, the machine's default for PCA.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import sklearn
import torch
from sklearn.decomposition import PCA

from benchmarks import augmentation, evaluation
from pmae.basis.pca import fit_pca

RESULTS = Path(__file__).parent / "results.json"
PCA_IMAGES, PCA_PIXELS = 20_000, 3 * 32 * 32


@dataclass(frozen=True)
class Figure:
    """One comparison; ``ratio`` above 1 means ours is ahead. ``name`` never changes."""

    name: str
    unit: str
    ours: float
    peer_name: str
    peer: float
    ratio: float
    goal: float
    met: bool
    note: str = ""


def _median_seconds(runs: int, *works: Callable[[], object]) -> list[float]:
    """Median of each work's duration, the works taking turns after one uncounted round."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(runs + 1):
        for index, work in enumerate(works):
            began = time.perf_counter()
            work()
            if turn:
                times[index].append(time.perf_counter() - began)
    return [statistics.median(found) for found in times]


def pca_fit() -> Figure:
    """Covariance and ``eigh`` in one pass, against scikit-learn's ``PCA()``."""
    images = torch.randn(PCA_IMAGES, PCA_PIXELS, generator=torch.Generator().manual_seed(0))
    table = images.numpy()
    ours, peer = _median_seconds(
        3, lambda: fit_pca(images.split(1024)), lambda: PCA(svd_solver="full").fit(table)
    )
    ratio = peer / ours
    name = f"PCA fit, {PCA_IMAGES:,} x {PCA_PIXELS:,}"
    peer_name = f"scikit-learn {sklearn.__version__} PCA(svd_solver='full')"
    return Figure(name, "s", ours, peer_name, peer, ratio, 4, ratio >= 4)


def input_pipeline() -> Figure:
    """See :mod:`benchmarks.augmentation`."""
    speed = augmentation.measure(32, 512)
    return Figure(
        "crop, flip, standardise and mask, 32 px RGB, one core",
        "images/s",
        speed.ours,
        augmentation.PEER,
        speed.peer,
        speed.ratio,
        5,
        speed.ratio >= 5,
    )


def probe() -> Figure:
    """See :mod:`benchmarks.evaluation`."""
    found = evaluation.probe()
    ratio = found.encoding / found.cached
    return Figure(
        f"linear probe, {evaluation.EPOCHS} epochs, digits",
        "s",
        found.cached,
        "augmenting and encoding in every epoch",
        found.encoding,
        ratio,
        20,
        ratio >= 20,
        f"top-1 after {found.accuracy_epochs} epochs: {found.cached_top1:.1%}, encoding every "
        f"epoch {found.encoding_top1:.1%}",
    )


def knn() -> Figure:
    """See :mod:`benchmarks.evaluation`."""
    times = evaluation.knn()
    ratio = times.peer / times.ours
    return Figure(
        f"k-NN, k = 2 to 19, {evaluation.QUERIES:,} x {evaluation.IMAGES:,} x {evaluation.DIM}",
        "s",
        times.ours,
        evaluation.KNN_PEER,
        times.peer,
        ratio,
        1,
        ratio >= 1,
        f"{times.agreement:.2%} of the predictions are the same",
    )


FIGURES: dict[str, Callable[[], Figure]] = {
    "pca": pca_fit,
    "input": input_pipeline,
    "probe": probe,
    "knn": knn,
}


def _recorded() -> dict[str, dict[str, object]]:
    """The figures that were measured before, by name."""
    figures: list[dict[str, object]] = json.loads(RESULTS.read_text())["figures"]
    return {str(figure["name"]): figure for figure in figures}


def main() -> None:
    """Measure, print a table and write ``results.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FIGURES)}; default: all")
    names = parser.parse_args().names or list(FIGURES)
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        parser.error(f"unknown figure {unknown[0]!r}; valid are {', '.join(FIGURES)}")
    figures = [FIGURES[name]() for name in names]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - whichever git there is
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    recorded = {} if names == list(FIGURES) else _recorded()
    recorded |= {figure.name: asdict(figure) for figure in figures}
    facts = {"machine": machine, "commit": commit, "figures": list(recorded.values())}
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"| figure | ours | peer | ratio | goal |  ({machine})")
    print("|---|---|---|---|---|")
    for f in figures:
        goal = f"{f.goal:g}x, {'met' if f.met else 'not met'}"
        print(
            f"| {f.name} | {f.ours:,.3g} {f.unit} | {f.peer:,.3g} {f.unit} ({f.peer_name}) "
            f"| {f.ratio:.1f} | {goal} |" + (f"  {f.note}" if f.note else "")
        )


if __name__ == "__main__":
    main()
