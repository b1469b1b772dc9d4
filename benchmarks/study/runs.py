"""Run the study's pretrainings, several at a time, in separate processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.study import noise
from benchmarks.study.plan import Case
from benchmarks.study.records import Results, read_record
from pmae.runs.layout import RunDir
from pmae.runtime.files import write_file
from pmae.training.process import trainer

# Its processes have imported torch and Lightning, which else takes a sixth of a small pretraining.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["benchmarks.study.noise", "pmae.training.process.trainer"])
_POLL_SECONDS = 0.5
_STOP_TIMEOUT_SECONDS = 60
"""Time for a trainer to write a checkpoint after SIGTERM."""


class Study:
    """Runner of unrecorded cases.

    Args:
        folder: of the runs.
        results: to record finished runs in.
        jobs: number of concurrent pretrainings.
    """

    def __init__(self, folder: Path, results: Results, *, jobs: int) -> None:
        self._folder = folder
        self._results = results
        self._jobs = jobs
        self._running: dict[str, tuple[Case, BaseProcess]] = {}
        # Read by whatever computes when the trainers' parent starts; two threads on one core crawl.
        os.environ["OMP_NUM_THREADS"] = "1"

    def run(self, wanted: Sequence[Case]) -> list[str]:
        """Run cases, in their order.

        Returns:
            The names of the cases that failed.
        """
        waiting = list(wanted)
        total, failed = len(waiting), list[str]()
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._jobs:
                    self._start(waiting.pop(0))
                time.sleep(_POLL_SECONDS)
                failed += self._collect(total - len(waiting) - len(self._running), total)
        finally:
            self._stop()
        return failed

    def _start(self, case: Case) -> None:
        run = RunDir(self._folder / case.folder)
        run.path.mkdir(parents=True, exist_ok=True)
        write_file(run.spec, case.spec.model_dump_json(indent=1).encode())
        process = _FORKS.Process(target=_train, args=(run.path, case.noise))
        process.start()
        self._running[case.folder] = (case, process)

    def _collect(self, done: int, total: int) -> list[str]:
        failed = []
        for name, (case, process) in list(self._running.items()):
            if process.is_alive():
                continue
            del self._running[name]
            record = read_record(RunDir(self._folder / name), case.name, case.spec)
            if process.exitcode or record is None:
                failed.append(name)
                continue
            self._results.add(record)
            sys.stdout.write(f"{time.strftime('%H:%M')} {done + 1}/{total} {name}\n")
            sys.stdout.flush()
        return failed

    def _stop(self) -> None:
        for _, process in self._running.values():
            process.terminate()
        for _, process in self._running.values():
            process.join(_STOP_TIMEOUT_SECONDS)
            if process.is_alive():
                process.kill()


def _train(run: Path, noisy: bool) -> None:
    """Train the run of a folder in this process; it ends with the trainer's exit status."""
    # Ctrl-C reaches the study only, which then asks each trainer to checkpoint.
    os.setsid()
    log = os.open(run / "output.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    sys.argv = ["pmae.train", str(run)]
    sys.exit((noise if noisy else trainer).main())
