"""What the README's figures come from: ``make bench``, or ``make bench NAME=pca`` for one of them.

Ours and a peer run in turn, several times each; the table gives medians and their ratio. One
thread for the input pipeline, the machine's default for PCA.
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

from benchmarks import augmentation, bases
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
}


def main() -> None:
    """Measure, print a table and write ``results.json``; with names, print only those."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    names = parser.parse_args().names
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"unknown measurement {unknown[0]!r}; valid are {', '.join(MEASUREMENTS)}")
    figures = [figure for name in names or MEASUREMENTS for figure in MEASUREMENTS[name]()]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - whichever git there is
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    facts = {"machine": machine, "commit": commit, "figures": [asdict(f) for f in figures]}
    if not names:
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
