"""Run the study and write its results: ``make study``, or ``python -m benchmarks.study``.

    python -m benchmarks.study                     # run what is not recorded yet, then report
    python -m benchmarks.study --only fashion      # only cases with these words in their names
    python -m benchmarks.study --long              # more finalists
    python -m benchmarks.study --report            # tables and plots of recorded results only
    python -m benchmarks.study --fresh             # measure everything again

Ratio and learning rate of each method are chosen on validation images, then the finalists are
trained. Each pretraining is a separate process (``python -m pmae.train``) in ``--folder``. Ctrl-C
stops them at a checkpoint, from which the same command continues. Finished runs are recorded in
``docs/study/results.json`` with their spec; a case whose spec has changed runs again.
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
    """Run the command and return its exit status."""
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
        sys.stderr.write("stopped; the same command continues from here\n")
        return 130
    except PmaeError as error:
        sys.stderr.write(f"study: {error}\n")
        return 1
    for name in failed:
        sys.stderr.write(f"failed: {name} (see its output.log)\n")
    return 1 if failed else 0


def _run(results: Results, options: argparse.Namespace) -> list[str]:
    """Run cases until their results determine no further ones."""
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
    """The spec of a method's pretraining at its chosen ratio and learning rate."""
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
    parser.add_argument("--fresh", action="store_true", help="discard recorded results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
