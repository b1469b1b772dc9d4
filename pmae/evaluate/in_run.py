"""Evaluations of a spec, during its run and at the end.

A result is a function of the checkpoint, the images and the evaluation's spec, and records all
three. So a process that resumes a killed run reuses the results of earlier ones, and repeats only
unfinished evaluations.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pmae.data.transforms.standardize import PixelStatistics
from pmae.evaluate.classifier import Tick
from pmae.evaluate.measure import Evaluations
from pmae.evaluate.results import EvaluationResult, Source
from pmae.evaluate.subject import Subject, Target, weights_sha256
from pmae.runs.events import EvaluationEvent, EventWriter, ProgressEvent, intact_events
from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.spec import EvaluationSpec, ExperimentSpec
from pmae.training.module import PretrainModule

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One evaluation of one source of features at one epoch."""

    key: str
    evaluation: EvaluationSpec
    source: Source


class Ledger:
    """Results of a run: records each one once, and measures the same weights only once.

    Args:
        events: of this lease, with the events that a checkpoint carried.
        run_dir: whose earlier leases may have results.
    """

    def __init__(self, events: EventWriter, run_dir: RunDir) -> None:
        self._events = events
        self._recorded = {event.key for event in _evaluations(events.carried())}
        self._earlier = [
            event
            for lease in run_dir.leases()
            if lease.events.is_file()
            for event in _evaluations(lease.events.read_bytes())
        ]

    def pending(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs without a recorded result."""
        return [job for job in jobs if job.key not in self._recorded]

    def do(self, jobs: Sequence[Job], evaluations: Evaluations) -> None:
        """Do the jobs in order, and record each result at once.

        Args:
            jobs: pending ones.
            evaluations: of the jobs' subject.

        Raises:
            StopRequested: raised by the tick; results recorded until then are kept.
        """
        for done, job in enumerate(jobs):
            self._write_progress(done, len(jobs))
            event = self._known(job, evaluations)
            if event is None:
                event = evaluation_event(evaluations.measure(job.evaluation, job.source, job.key))
            self._events.write(event)
            self._recorded.add(job.key)
            _log.info("%s: top-1 %.4f", job.key, event.top1)
        self._write_progress(len(jobs), len(jobs))
        self._events.sync()

    def _known(self, job: Job, evaluations: Evaluations) -> EvaluationEvent | None:
        """Find an earlier process's result of the same weights by the same recipe."""
        sha256 = evaluations.subject.sha256
        wanted = (job.key, sha256, job.evaluation.model_dump(mode="json"))
        for event in self._earlier:
            details = event.details
            if (event.key, details.get("checkpoint_sha256"), details.get("spec")) == wanted:
                return event
        return None

    def _write_progress(self, done: int, total: int) -> None:
        self._events.write(ProgressEvent(stage="probe", done=done, total=total))


class Evaluator:
    """Evaluator of a run: does each evaluation once, and records its result.

    Args:
        spec: of the run, resolved.
        settings: with the data root.
        events: of this lease, with the events that a checkpoint carried.
        tick: called often; may raise to stop.
        run_dir: whose earlier leases may have results.
        data_digest: of the run's data set.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        settings: StorageSettings,
        events: EventWriter,
        tick: Tick,
        run_dir: RunDir,
        data_digest: str,
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._tick = tick
        self._data_digest = data_digest
        self._ledger = Ledger(events, run_dir)

    def due(self, epoch: float) -> bool:
        """True if an evaluation is pending at this epoch, before the end of the run."""
        return epoch < self._spec.epochs and bool(self._jobs(epoch))

    def run(self, module: PretrainModule, step: int, epoch: float) -> None:
        """Do the pending evaluations, without changing the module or the random state.

        Args:
            module: after ``step`` steps, on the device that computes.
            step: optimiser steps done.
            epoch: epochs done.

        Raises:
            StopRequested: raised by the tick; results recorded until then are kept.
        """
        jobs = self._jobs(epoch)
        if not jobs:
            return
        evaluations = Evaluations(
            _subject(module, step, epoch, self._data_digest), self._settings, self._tick
        )
        try:
            self._ledger.do(jobs, evaluations)
        finally:
            evaluations.close()

    def _jobs(self, epoch: float) -> list[Job]:
        jobs = run_jobs(self._spec.evaluations, epoch, final=epoch == self._spec.epochs)
        return self._ledger.pending(jobs)


def run_jobs(evaluations: Sequence[EvaluationSpec], epoch: float, *, final: bool) -> list[Job]:
    """List the evaluations of a run at an epoch.

    Keys are ``linear/encoder``, for the second evaluation of a protocol ``linear-2/encoder``, and
    before the end ``linear/encoder@100``.
    """
    jobs: list[Job] = []
    numbers: dict[str, int] = {}
    for evaluation in evaluations:
        protocol = evaluation.protocol
        number = numbers[protocol] = numbers.get(protocol, 0) + 1
        if not final and epoch not in evaluation.at_epochs:
            continue
        name = protocol if number == 1 else f"{protocol}-{number}"
        at = "" if final else f"@{epoch:g}"
        # A baseline that pretraining does not change is measured once, at the end.
        sources: tuple[Source, ...] = ("encoder", *(evaluation.baselines if final else ()))
        jobs += [Job(f"{name}/{source}{at}", evaluation, source) for source in sources]
    return jobs


def evaluation_event(result: EvaluationResult) -> EvaluationEvent:
    """Make the trainer's event of a result."""
    return EvaluationEvent(
        key=result.key,
        protocol=result.protocol,
        features=result.source,
        step=result.step,
        epoch=result.epoch,
        split=result.split,
        top1=result.top1,
        details=result.details(),
    )


def _subject(module: PretrainModule, step: int, epoch: float, data_digest: str) -> Subject:
    statistics = PixelStatistics(module.pixel_mean.cpu(), module.pixel_std.cpu())
    return Subject(
        spec=module.spec,
        encoder=module.model.encoder,
        target=Target(module.data, statistics, module.spec.augmentation, data_digest),
        step=step,
        epoch=epoch,
        sha256=weights_sha256(module.state_dict()),
        precision="bf16" if module.spec.precision == "bf16" else "fp32",
    )


def _evaluations(lines: bytes) -> Iterator[EvaluationEvent]:
    """The evaluation events among the lines of an event file."""
    return (event for event in intact_events(lines) if isinstance(event, EvaluationEvent))
