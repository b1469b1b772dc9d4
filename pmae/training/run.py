"""Execute a run from its spec to its evaluations: data, basis, pretrain, probe."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pmae.basis.basis import Basis
from pmae.basis.fit import fit_basis, fit_key
from pmae.basis.reach import check_reach
from pmae.basis.store import BasisStore
from pmae.data.images import ImageData
from pmae.data.registry import load_data
from pmae.data.transforms.floor import floor_warning, train_statistics
from pmae.data.transforms.standardize import PixelStatistics
from pmae.errors import CheckpointError
from pmae.evaluate.in_run import Evaluator
from pmae.methods.base import Method, method_for
from pmae.runs.checkpoints import (
    CheckpointConfig,
    TrainingState,
    newest_valid,
    read_carried_events,
    read_config,
    read_manifest,
    read_state,
)
from pmae.runs.events import (
    BasisEvent,
    EndEvent,
    EventWriter,
    ProgressEvent,
    StageEvent,
    StartEvent,
    WarningEvent,
)
from pmae.runs.layout import LeaseDir, RunDir
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec
from pmae.spec.parts.checkpoint import check_best_accuracy
from pmae.spec.sizes import check_sizes
from pmae.training.callbacks import pretrain
from pmae.training.environment import (
    choose_precision,
    emulation_warning,
    environment,
    require_compiler,
)
from pmae.training.init_from import InitialWeights, read_initial_weights
from pmae.training.module import PretrainModule
from pmae.training.process.distributed import Ranks, RankTask, choose_accelerator
from pmae.training.process.signals import StopSignal

_PROGRESS_SECONDS = 1.0
_log = logging.getLogger(__name__)


def run(
    run_dir: RunDir,
    lease: LeaseDir,
    spec: ExperimentSpec,
    settings: StorageSettings,
    events: EventWriter,
    stop: StopSignal,
    make_method: Callable[[ExperimentSpec, Basis | None], Method] = method_for,
) -> None:
    """Execute the stages of the spec, from the run's newest valid checkpoint if there is one.

    Args:
        run_dir: folder of the run.
        lease: existing folder of this process's lease.
        spec: resolved spec.
        settings: folders of data sets and bases.
        events: event writer of this lease.
        stop: installed stop signal.
        make_method: makes the method; one other than the registry's trains on one device only.

    Raises:
        StopRequested: SIGTERM was received.
        PmaeError: the run failed; the message is for the researcher.
    """
    torch.set_num_threads(spec.threads)
    accelerator = choose_accelerator(spec.devices)
    device = torch.device(accelerator)
    require_compiler(spec, device)
    begin = _begin(run_dir, spec, settings, device)
    spec, checkpoint, resumed_config = begin.spec, begin.checkpoint, begin.config
    _start(lease, begin, environment(spec, device, begin.init_digest), events)
    emulated = emulation_warning(spec.precision, device)
    if emulated:
        events.write(WarningEvent(message=emulated))

    events.write(StageEvent(stage="data"))
    data = load_data(spec.dataset, settings, object_masks=spec.masking.needs_object_masks)
    data_digest = data.digest()
    _log.info(
        "%s: %d train, %d val, %d test images of %s",
        data.name, len(data.train), len(data.val), len(data.test), data.image_shape,
    )  # fmt: skip

    if resumed_config and not data.has_digest(resumed_config.data_digest):
        raise CheckpointError(
            f"the files of {data.name} have changed since the checkpoint was made; "
            "put them back, or submit a new run"
        )
    if not checkpoint:
        check_best_accuracy(spec.checkpoint, binary_labels=data.multi_label)
        for fitted in check_sizes(spec, len(data.train)):
            events.write(WarningEvent(message=fitted))
    if begin.initial:
        begin.initial.check(spec, data.image_shape[0])
    resume: tuple[int, TrainingState] | None = None
    if checkpoint:
        resume = (read_manifest(checkpoint).step, read_state(checkpoint))
    spec, statistics = _statistics(spec, data, resume[1] if resume else None, events)
    basis, digest = _basis(
        spec, data, data_digest, statistics, settings, events, resumed_config, device
    )
    config = CheckpointConfig(
        spec=spec,
        channels=data.image_shape[0],
        class_names=data.class_names,
        data_digest=data_digest,
        basis_digest=digest,
        init_digest=begin.init_digest,
    )
    method = make_method(spec, basis.to(device) if basis else None)
    module = PretrainModule(spec, data, statistics, method)
    if resume:
        module.load_weights(resume[1])
    elif begin.initial:
        begin.initial.load_into(module.model)

    evaluator = Evaluator(spec, settings, events, stop.check, run_dir, data_digest)
    events.write(StageEvent(stage="pretrain"))
    pretrain(
        module,
        lease=lease,
        events=events,
        config=config,
        stop=stop,
        evaluator=evaluator,
        resume=resume,
        ranks=Ranks(
            RankTask(spec=spec, storage=settings, basis_digest=digest, checkpoint=checkpoint),
            accelerator,
        ),
    )
    if spec.evaluations:
        events.write(StageEvent(stage="probe"))
        module.to(device)
        evaluator.run(module, module.plan.total_steps, spec.epochs)
    events.write(EndEvent(step=module.plan.total_steps))
    events.sync()


def _statistics(
    spec: ExperimentSpec, data: ImageData, resumed: TrainingState | None, events: EventWriter
) -> tuple[ExperimentSpec, PixelStatistics]:
    """Return the train split's pixel statistics, and the spec with their resolved floor.

    Both are read from a checkpoint if there is one, which saves a pass over the images.
    """
    if resumed:
        pixels = PixelStatistics(resumed.weights["pixel_mean"], resumed.weights["pixel_std"])
        return spec, pixels
    given = spec.dataset.std_floor
    pixels, floor = train_statistics(data.train, given, spec.augmentation)
    at_floor = floor_warning(pixels, floor, chosen=given is None)
    if at_floor:
        events.write(WarningEvent(message=at_floor))
    dataset = spec.dataset.model_copy(update={"std_floor": floor})
    return spec.model_copy(update={"dataset": dataset}), pixels


@dataclass(frozen=True)
class _Begin:
    """Start of a trainer: a checkpoint of the run, another run's weights, or neither.

    Attributes:
        spec: spec with a resolved precision, and the floor of the checkpoint if any.
        checkpoint: checkpoint of the run to resume from.
        config: configuration of that checkpoint.
        skipped: error messages of newer checkpoints that were skipped.
        initial: another run's weights to start from.
        init_digest: digest of the run's initial weights, if they are another run's.
    """

    spec: ExperimentSpec
    checkpoint: Path | None
    config: CheckpointConfig | None
    skipped: list[str]
    initial: InitialWeights | None
    init_digest: str | None


def _begin(
    run_dir: RunDir, spec: ExperimentSpec, settings: StorageSettings, device: torch.device
) -> _Begin:
    checkpoint, skipped = newest_valid(run_dir)
    if checkpoint:
        config = read_config(checkpoint)
        # The precision of the first lease stays, whatever this machine would choose.
        dataset = spec.dataset.model_copy(update={"std_floor": config.spec.dataset.std_floor})
        spec = spec.model_copy(update={"precision": config.spec.precision, "dataset": dataset})
        return _Begin(spec, checkpoint, config, skipped, None, config.init_digest)
    initial = read_initial_weights(spec, settings)
    digest = initial.digest if initial else None
    return _Begin(choose_precision(spec, device), None, None, skipped, initial, digest)


def _start(lease: LeaseDir, begin: _Begin, here: dict[str, Any], events: EventWriter) -> None:
    """Write the events stored in the resumed checkpoint, then the start event."""
    checkpoint = begin.checkpoint
    carried = read_carried_events(checkpoint) if checkpoint else []
    events.write_all(carried)
    step = read_manifest(checkpoint).step if checkpoint else 0
    events.write(
        StartEvent(
            lease=lease.number,
            resumed_from=checkpoint.name if checkpoint else None,
            resumed_step=step,
            environment=here,
        )
    )
    for sentence in begin.skipped:
        events.write(WarningEvent(message=f"a broken checkpoint was skipped: {sentence}"))
    before = next((e.environment for e in reversed(carried) if isinstance(e, StartEvent)), here)
    changed = [f"{k}: {before[k]} -> {v}" for k, v in here.items() if before.get(k, v) != v]
    if changed:
        text = "resumed in another environment, the result may differ in its bits: "
        events.write(WarningEvent(message=text + "; ".join(changed)))
    _log.info("resumed at step %d" if step else "started at step %d", step)


def _basis(
    spec: ExperimentSpec,
    data: ImageData,
    data_digest: str,
    statistics: PixelStatistics,
    settings: StorageSettings,
    events: EventWriter,
    resumed: CheckpointConfig | None,
    device: torch.device,
) -> tuple[Basis | None, str | None]:
    if spec.basis is None:
        return None, None
    events.write(StageEvent(stage="basis"))
    store = BasisStore(settings.bases_dir)
    if resumed and resumed.basis_digest:
        digest, basis = resumed.basis_digest, store.load(resumed.basis_digest)
    else:
        digest, basis = store.get_or_fit(
            fit_key(spec, data_digest),
            data.image_shape[0],
            lambda: _fit(spec, data, statistics, events, device),
        )
    events.write(BasisEvent(digest=digest))
    _log.info(
        "basis %s: %d components hold %.4g of the variance",
        digest[:12], basis.num_components, basis.spanned_variance,
    )  # fmt: skip
    check_reach(spec.masking, basis)
    return basis, digest


def _fit(
    spec: ExperimentSpec,
    data: ImageData,
    statistics: PixelStatistics,
    events: EventWriter,
    device: torch.device,
) -> Basis:
    """Fit the basis on a GPU if there is one, else with all CPUs available to this process."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(available or spec.threads)
    try:
        return fit_basis(spec, data.train, statistics, _FitProgress(events), device)
    finally:
        torch.set_num_threads(spec.threads)


class _FitProgress:
    """Reporter of a fit's progress, once a second."""

    def __init__(self, events: EventWriter) -> None:
        self._events = events
        self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._events.write(ProgressEvent(stage="basis", done=done, total=total))
