"""Measure the figures of docs/performance.md: ``make bench``, ``make bench NAME=pca`` for some.

    python -m benchmarks.run               # all but the API's
    python -m benchmarks.run probe knn     # only these; others keep their recorded figures
    python -m benchmarks.run api           # the API's; ``make bench-api`` also installs the peer

Ours and a peer run in turns, several times each; the table gives medians and their ratio. The input
pipeline has one thread, PCA the machine's default.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import augmentation, bases, evaluation, masks, training_step
from benchmarks.api.figures import figures as api_figures
from benchmarks.figure import Figure

RESULTS = Path(__file__).parent / "results.json"


def input_pipeline() -> list[Figure]:
    """See :mod:`benchmarks.augmentation`."""
    speed = augmentation.measure(32, 512)
    figure = Figure(
        "crop, flip, standardise and mask, 32 px RGB, one core",
        "images/s",
        speed.ours,
        augmentation.PEER,
        speed.peer,
        speed.ratio,
        5,
        speed.ratio >= 5,
    )
    return [figure]


MEASUREMENTS: dict[str, Callable[[], list[Figure]]] = {
    "pca": bases.fit_times,
    "pca_memory": bases.fit_memory,
    "pca_growth": bases.growth,
    "input_pipeline": input_pipeline,
    "masks": masks.figures,
    "training_step": training_step.figures,
    "sizes": training_step.sizes,
    "probe": evaluation.probe_figures,
    "knn": evaluation.knn_figures,
    "api": api_figures,
}
_NEEDS_PEERS = "api"
"""Measured only when named: it needs servers that are not installed into our environment."""


def main() -> None:
    """Measure, print a table and write ``results.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    names = parser.parse_args().names
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        valid = ", ".join(MEASUREMENTS)
        parser.error(f"unknown measurement {unknown[0]!r}; expected one of {valid}")
    facts = {
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
    }
    recorded: dict[str, list[dict[str, object]]] = json.loads(RESULTS.read_text())
    print("| figure | ours | peer | ratio | goal |")
    print("|---|---|---|---|---|")
    for name in names or [name for name in MEASUREMENTS if name != _NEEDS_PEERS]:
        figures = MEASUREMENTS[name]()
        recorded[name] = [asdict(figure) | facts for figure in figures]
        for figure in figures:
            print(figure.row(), flush=True)
        kept = {name: recorded[name] for name in MEASUREMENTS if name in recorded}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - whichever git there is
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()


if __name__ == "__main__":
    main()
