"""Run the study's pretrainings, several at a time, in separate processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study.plan import Case
from benchmarks.study.records import Results, read_record
from pmae.runs.layout import RunDir
from pmae.runtime.files import write_file

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
        self._running: dict[str, tuple[Case, subprocess.Popen[bytes]]] = {}

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
        module = "benchmarks.study.noise" if case.noise else "pmae.train"
        with (run.path / "output.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(run.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                # So that Ctrl-C reaches this process only, which then stops each trainer.
                start_new_session=True,
            )
        self._running[case.folder] = (case, process)

    def _collect(self, done: int, total: int) -> list[str]:
        failed = []
        for name, (case, process) in list(self._running.items()):
            if process.poll() is None:
                continue
            del self._running[name]
            record = read_record(RunDir(self._folder / name), case.name, case.spec)
            if process.returncode or record is None:
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
            try:
                process.wait(_STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
