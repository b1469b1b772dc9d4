"""What the README's figures come from: ``make bench``.

Ours and a peer run in turn, several times each; the table gives medians and their ratio. One
thread for the input pipeline, the machine's default for PCA.
"""

from __future__ import annotations

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

from benchmarks import augmentation
from pmae.basis.pca import fit_pca

RESULTS = Path(__file__).parent / "results.json"
PCA_IMAGES, PCA_PIXELS = 20_000, 3 * 32 * 32


@dataclass(frozen=True)
class Figure:
    """One comparison; ``ratio`` above 1 means ours is ahead."""

    name: str
    unit: str
    ours: float
    peer_name: str
    peer: float
    ratio: float
    goal: float
    met: bool


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


def main() -> None:
    """Measure, print a table and write ``results.json``."""
    figures = [pca_fit(), input_pipeline()]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - whichever git there is
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    facts = {"machine": machine, "commit": commit, "figures": [asdict(f) for f in figures]}
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"| figure | ours | peer | ratio | goal |  ({machine})")
    print("|---|---|---|---|---|")
    for f in figures:
        goal = f"{f.goal:g}x, {'met' if f.met else 'not met'}"
        print(
            f"| {f.name} | {f.ours:,.3g} {f.unit} | {f.peer:,.3g} {f.unit} ({f.peer_name}) "
            f"| {f.ratio:.1f} | {goal} |"
        )


if __name__ == "__main__":
    main()
