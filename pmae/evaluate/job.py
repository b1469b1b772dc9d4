"""Run of the kind ``evaluate``: evaluates a checkpoint of another run in the same folder of runs.

The checkpoint is not changed; each result records the SHA-256 of its weights. A process that
resumes a killed run reuses its results, and does the rest.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from pmae.errors import CheckpointError
from pmae.evaluate.in_run import Ledger, run_jobs
from pmae.evaluate.measure import Evaluations
from pmae.evaluate.subject import Subject
from pmae.runs.checkpoints import read_config
from pmae.runs.events import (
    EndEvent,
    EventWriter,
    StageEvent,
    StartEvent,
    WarningEvent,
    intact_events,
)
from pmae.runs.layout import MANIFEST_FILE, LeaseDir, RunDir, stored_checkpoint
from pmae.settings import StorageSettings
from pmae.spec import EvaluateSpec, resolve_evaluate
from pmae.spec.sizes import check_neighbours
from pmae.training.environment import (
    Precision,
    allow_tf32,
    emulation_warning,
    evaluation_precision,
    machine,
)
from pmae.training.process.signals import StopSignal

_log = logging.getLogger(__name__)


def run(
    run_dir: RunDir,
    lease: LeaseDir,
    spec: EvaluateSpec,
    settings: StorageSettings,
    events: EventWriter,
    stop: StopSignal,
) -> None:
    """Do all evaluations of the spec that no earlier lease has done.

    Args:
        run_dir: the run's folder, beside that of the run that made the checkpoint.
        lease: the folder of this process's lease, which exists.
        spec: resolved or not.
        settings: with the data root.
        events: of this lease.
        stop: installed.

    Raises:
        StopRequested: on SIGTERM; results recorded until then are kept.
        PmaeError: the run cannot go on; the message is for a researcher.
    """
    folder = _find(run_dir.path.parent, spec)
    try:
        _measure(folder, run_dir, lease, spec, settings, events, stop)
    except CheckpointError as error:
        if not (folder / MANIFEST_FILE).is_file():
            raise _gone(spec) from error
        raise


def _measure(
    folder: Path,
    run_dir: RunDir,
    lease: LeaseDir,
    spec: EvaluateSpec,
    settings: StorageSettings,
    events: EventWriter,
    stop: StopSignal,
) -> None:
    spec = resolve_evaluate(spec, read_config(folder).spec)
    assert spec.threads is not None
    torch.set_num_threads(spec.threads)
    torch.use_deterministic_algorithms(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    allow_tf32(device)
    trained = read_config(folder).spec.precision
    asked = _chosen_before(run_dir) or spec.precision
    precision = evaluation_precision(asked, trained, device)
    facts = machine(device, spec.threads) | {"precision": precision}
    events.write(StartEvent(lease=lease.number, environment=facts))
    emulated = emulation_warning(precision, device)
    if emulated:
        events.write(WarningEvent(message=emulated))

    events.write(StageEvent(stage="data"))
    subject = Subject.load(folder, settings, device, precision)
    _log.info("%s of %s, after epoch %g", spec.checkpoint, subject.sha256[:12], subject.epoch)
    check_neighbours(spec.evaluations, len(subject.target.data.train), ("evaluations",))
    events.write(StageEvent(stage="probe"))
    ledger = Ledger(events, run_dir)
    evaluations = Evaluations(subject, settings, stop.check, seed=spec.seed)
    try:
        jobs = run_jobs(spec.evaluations, subject.epoch, final=True)
        ledger.do(ledger.pending(jobs), evaluations)
    finally:
        evaluations.close()
        subject.target.data.close()
    events.write(EndEvent(step=subject.step))
    events.sync()


def _chosen_before(run_dir: RunDir) -> Precision | None:
    """The precision that an earlier process of the run chose, to be kept on any machine."""
    for lease in run_dir.leases():
        if not lease.events.is_file():
            continue
        for event in intact_events(lease.events.read_bytes()):
            if isinstance(event, StartEvent) and "precision" in event.environment:
                return "bf16" if event.environment["precision"] == "bf16" else "fp32"
    return None


def _find(runs_dir: Path, spec: EvaluateSpec) -> Path:
    folder = stored_checkpoint(runs_dir, spec.checkpoint)
    if folder is None:
        raise _gone(spec)
    return folder


def _gone(spec: EvaluateSpec) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {spec.checkpoint} is not there (any more): it was deleted with its run, "
        "or by its run's retention; evaluate another one, and pin checkpoints to keep"
    )
