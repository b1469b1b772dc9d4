"""Measure the accuracy of the small presets: test top-1 over five seeds.

    python -m benchmarks.small                            # quickstart and fashion_mnist_small
    python -m benchmarks.small quickstart --seeds 3 --folder /tmp/small

Every run is a separate trainer process, as ``pmae demo`` starts it. Finished runs are not repeated,
so an interrupted command continues. Choose between features by their validation accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pmae.evaluate.results import mean_and_std
from pmae.presets import SMALL_PRESETS, get_preset
from pmae.runs.events import EvaluationEvent, read_events
from pmae.runs.layout import RunDir
from pmae.runtime.files import write_file
from pmae.spec import ExperimentSpec, resolve

_FACTS = "small.json"


@dataclass(frozen=True)
class Outcome:
    """Result of a finished run.

    Attributes:
        cpu_seconds: processor time of its processes.
        test: top-1 by the evaluation's key, for example ``linear/encoder``.
        val: the same on validation images.
    """

    cpu_seconds: float
    test: dict[str, float]
    val: dict[str, float]


def train(spec: ExperimentSpec, folder: Path) -> Outcome:
    """Train a spec in a separate process, unless its run has finished before.

    Raises:
        RuntimeError: the run failed, or the folder holds a run of another spec.
    """
    facts = folder / _FACTS
    run = RunDir(folder)
    wanted = resolve(spec).model_dump_json(indent=1).encode()
    if run.spec.is_file() and run.spec.read_bytes() != wanted:
        raise RuntimeError(
            f"{folder} holds a run of another spec (has the preset changed since?); "
            "delete it, or choose another --folder"
        )
    if facts.is_file():
        return Outcome(**json.loads(facts.read_bytes()))
    folder.mkdir(parents=True, exist_ok=True)
    write_file(run.spec, wanted)
    with (folder / "output.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pmae.train", str(folder)], stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{folder} failed; see {folder / 'output.log'}")
    outcome = _outcome(run, usage.ru_utime + usage.ru_stime)
    write_file(facts, json.dumps(asdict(outcome)).encode())
    return outcome


def _outcome(run: RunDir, cpu_seconds: float) -> Outcome:
    events = read_events(run.leases()[-1].events)
    found = {event.key: event for event in events if isinstance(event, EvaluationEvent)}
    return Outcome(
        cpu_seconds,
        {key: event.top1 for key, event in found.items()},
        {key: event.details["val_top1"] for key, event in found.items()},
    )


def rows(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    """Format lines of the table: mean and sample standard deviation over the seeds, in percent."""
    seconds = sum(outcome.cpu_seconds for outcome in outcomes) / len(outcomes)
    return [
        f"| {name} | {key} | {_percent([outcome.val[key] for outcome in outcomes])} | "
        f"{_percent([outcome.test[key] for outcome in outcomes])} | {len(outcomes)} | "
        f"{seconds:.0f} s |"
        for key in outcomes[0].test
    ]


def _percent(values: Sequence[float]) -> str:
    mean, std = mean_and_std([100 * value for value in values])
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def main() -> None:
    """Train every seed and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small", description=__doc__)
    names = [preset.name for preset in SMALL_PRESETS]
    parser.add_argument("names", nargs="*", metavar="PRESET", help=f"default: {' '.join(names)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("var/small"))
    options = parser.parse_args()
    print("| preset | probe | val | test | seeds | CPU time of a run |\n|---|---|---|---|---|---|")
    for name in options.names or names:
        spec = get_preset(name).spec
        outcomes = [
            train(
                spec.model_copy(update={"seed": seed}), options.folder.absolute() / name / f"{seed}"
            )
            for seed in range(options.seeds)
        ]
        print("\n".join(rows(name, outcomes)), flush=True)


if __name__ == "__main__":
    main()
