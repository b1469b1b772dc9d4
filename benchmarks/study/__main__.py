"""Run the study and write what came out: ``make study``, or ``python -m benchmarks.study``.

    python -m benchmarks.study                     # what is not recorded yet, then the report
    python -m benchmarks.study --only fashion      # only cases whose names hold these words
    python -m benchmarks.study --long              # more finalists
    python -m benchmarks.study --report            # tables and plots of what is recorded
    python -m benchmarks.study --fresh             # measure all of it again

Ratio and learning rate of each method are chosen on validation, then the finalists are trained.
Each pretraining is a process of its own (``python -m pmae.train``) below ``--folder``. Ctrl-C stops
them at a checkpoint; the command goes on from there when it is given again. What has ended is
recorded in ``docs/study/results.json``, with the spec that it is of: a case that was changed runs
again.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.study.cost import step_costs
from benchmarks.study.design import DATASETS, spec_fields
from benchmarks.study.plan import choose, next_cases
from benchmarks.study.plots import write_plots
from benchmarks.study.records import Results
from benchmarks.study.report import write_tables
from benchmarks.study.runs import Study
from pmae.errors import PmaeError
from pmae.spec import ExperimentSpec, resolve

RESULTS = Path("docs/study/results.json")


def main() -> int:
    """Run the command; returns the exit status."""
    options = _options()
    for stop in (signal.SIGINT, signal.SIGTERM):  # also where a shell started it in the background
        signal.signal(stop, signal.default_int_handler)
    results = Results(RESULTS)
    if options.fresh:
        results.clear()
    failed: list[str] = []
    try:
        if not options.report:
            failed = _run(results, options)
        write_tables(results, RESULTS.parent / "tables.md")
        write_plots(results, RESULTS.parent)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        return 130
    except PmaeError as error:
        sys.stderr.write(f"study: {error}\n")
        return 1
    for name in failed:
        sys.stderr.write(f"failed: {name} (its log says why)\n")
    return 1 if failed else 0


def _run(results: Results, options: argparse.Namespace) -> list[str]:
    """Run what is known to be wanted until nothing more becomes known."""
    study = Study(options.folder, results, jobs=options.jobs)
    while True:
        cases, uncosted = next_cases(results, long=options.long, words=options.only)
        if not cases and not uncosted:
            return []
        failed = study.run(cases)
        if failed:
            return failed
        specs = {name: _plain_spec(results, name) for name in uncosted}
        for name, seconds in step_costs(specs).items():
            results.add_cost(name, seconds)


def _plain_spec(results: Results, name: str) -> ExperimentSpec:
    """The pretraining of a data set by a method, as it was chosen."""
    dataset_name, method = name.split("/")
    dataset = next(dataset for dataset in DATASETS if dataset.name == dataset_name)
    choice = choose(results, dataset, method)
    assert choice is not None, "a cost is measured when the choice is made"
    return resolve(ExperimentSpec.model_validate(spec_fields(dataset, method, choice, {})))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("var/study"), help="of the runs (default: var/study)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="pretrainings at once, a core each")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="words in the names")
    parser.add_argument("--long", action="store_true", help="more finalists (hours)")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--fresh", action="store_true", help="forget what is recorded")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
