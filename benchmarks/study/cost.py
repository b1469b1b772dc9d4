"""What an epoch of pretraining costs: processor time, which waiting for a processor is no part of.

The real trainer runs the same spec for a few epochs and for some more; the difference of their
processor times is that of the epochs between, without what starting and reading the data takes.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study.records import Results
from benchmarks.study.runs import Case
from pmae.files import write_file
from pmae.layout import RunDir
from pmae.spec import ExperimentSpec, ScheduleSpec, resolve

_ROUNDS = 3
_FEW, _MORE = 1, 5


def measure_costs(folder: Path, results: Results, wanted: Sequence[Case]) -> None:
    """Measure one case of each preset that has no figure yet."""
    by_preset = {case.preset: case.spec for case in reversed(wanted)}
    for preset, spec in by_preset.items():
        if preset not in results.costs:
            results.add_cost(preset, epoch_seconds(spec, folder))


def epoch_seconds(spec: ExperimentSpec, folder: Path) -> float:
    """Median processor time of one epoch of a resolved spec, in seconds."""
    return statistics.median(
        (_train_seconds(spec, _MORE, folder) - _train_seconds(spec, _FEW, folder)) / (_MORE - _FEW)
        for _ in range(_ROUNDS)
    )


def _train_seconds(spec: ExperimentSpec, epochs: int, folder: Path) -> float:
    """Processor time of a trainer that evaluates nothing."""
    changes = {
        "epochs": epochs,
        "evaluations": (),
        "schedule": ScheduleSpec(warmup_epochs=0),
        "checkpoint": spec.checkpoint.model_copy(update={"every_epochs": epochs}),
    }
    short = resolve(spec.model_copy(update=changes))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        run = RunDir(Path(name))
        write_file(run.spec, short.model_dump_json().encode())
        before = _children_seconds()
        subprocess.run(
            [sys.executable, "-m", "pmae.train", name],
            check=True,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return _children_seconds() - before


def _children_seconds() -> float:
    """Of the child processes that have ended and were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
