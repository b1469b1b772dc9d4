"""Run the study and write what came out: ``make study``, or ``python -m benchmarks.study``.

    python -m benchmarks.study                     # what is not recorded yet, then the report
    python -m benchmarks.study --only fashion mae  # only presets whose names hold these words
    python -m benchmarks.study --report            # tables and plots of what is recorded
    python -m benchmarks.study --fresh             # measure all of it again

Each pretraining is a process of its own (``python -m pmae.train``) below ``--folder``. Ctrl-C stops
them at a checkpoint; the command goes on from there when it is given again. What has ended is
recorded in ``docs/study/results.json``, with the spec that it is of: a preset that was changed runs
again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.study.cost import measure_costs
from benchmarks.study.plots import write_plots
from benchmarks.study.records import Results
from benchmarks.study.report import write_tables
from benchmarks.study.runs import SEEDS, Study, cases
from pmae.errors import PmaeError

RESULTS = Path("docs/study/results.json")


def main() -> int:
    """Run the command; returns the exit status."""
    options = _options()
    results = Results(RESULTS)
    if options.fresh:
        results.clear()
    failed: list[str] = []
    try:
        if not options.report:
            wanted = cases(options.only, options.seeds)
            failed = Study(options.folder, results, jobs=options.jobs).run(wanted)
            measure_costs(results, wanted)
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
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="SEED")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--fresh", action="store_true", help="forget what is recorded")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
