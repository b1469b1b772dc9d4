"""Lightning callbacks between steps: events, validation, checkpoints, stopping on request."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch

from pmae.data.transforms.standardize import PixelStatistics
from pmae.errors import TimeLimitError
from pmae.evaluate.in_run import Evaluator
from pmae.metrics import BAND_METRICS
from pmae.runs.checkpoints import CheckpointConfig, TrainingState
from pmae.runs.events import (
    EventWriter,
    MetricsEvent,
    ProgressEvent,
    finite,
)
from pmae.runs.layout import LeaseDir
from pmae.training.checkpoint_writer import CheckpointWriter
from pmae.training.environment import allow_tf32
from pmae.training.epoch_sums import EpochSums
from pmae.training.filmstrip import Film
from pmae.training.module import PretrainModule
from pmae.training.monitor import Monitor
from pmae.training.process.distributed import Ranks, trainer_options
from pmae.training.process.signals import StopSignal

_PROGRESS_SECONDS = 0.5
_TRAINED_SECONDS = "trained_seconds"
_log = logging.getLogger(__name__)


def pretrain(
    module: PretrainModule,
    *,
    lease: LeaseDir,
    events: EventWriter,
    config: CheckpointConfig,
    stop: StopSignal,
    evaluator: Evaluator,
    resume: tuple[int, TrainingState] | None,
    ranks: Ranks,
) -> None:
    """Train from the start, or from a checkpoint's step, to the end.

    Raises:
        StopRequested: SIGTERM was received; the last finished step has a checkpoint.
        NonFiniteLossError: the loss is NaN or infinite; the last good checkpoint is kept.
        TimeLimitError: ``max_hours`` are used up; the last finished step has a checkpoint.
        TrainingError: the process of another device failed.
    """
    first, state = resume or (0, None)
    if first >= module.plan.total_steps:
        return
    trained_seconds = state.counters.get(_TRAINED_SECONDS, 0.0) if state else 0.0
    film = Film(lease, module.spec.epochs)
    monitor = Monitor(module.spec, module.data)
    writer = CheckpointWriter(lease, events, config, milestone_steps(module))
    boundary = StepBoundary(events, writer, stop, evaluator, film, monitor, first, trained_seconds)
    try:
        with stop.deferred(), ranks:
            fit(module, first, [Restore(state), boundary], ranks.accelerator)
            writer.flush()
    finally:
        writer.close()


def fit(module: PretrainModule, first: int, callbacks: list[pl.Callback], accelerator: str) -> None:
    """Loop over the steps from ``first`` on, together with the processes of other devices."""
    if module.spec.compile:
        module.model.compile()
    # Lightning's notes on absent hardware and on packages to install.
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    # Deterministic algorithms make torch fill all new memory (890 of the 1,040 fills of a step),
    # which is not needed: nothing here reads memory before writing it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    allow_tf32(torch.device(accelerator))
    trainer = pl.Trainer(
        accelerator=accelerator,
        max_epochs=1,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic=True,
        accumulate_grad_batches=module.plan.accumulate_steps,
        **trainer_options(module.plan.devices, module.rank),
    )
    # Lightning's SIGTERM handler would replace the trainer's, exit without a checkpoint, and
    # communicate with other ranks out of order. No setting turns it off.
    connector = trainer._signal_connector  # noqa: SLF001
    connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit(module, module.plan.micro_steps(first))


class Restore(pl.Callback):
    """Callback that restores a saved state once the optimiser exists."""

    def __init__(self, state: TrainingState | None) -> None:
        self._state = state

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the state of the checkpoint, if any."""
        assert isinstance(pl_module, PretrainModule)
        if self._state is not None:
            pl_module.load_training_state(self._state, trainer.optimizers[0])
            self._state = None


class StepBoundary(pl.Callback):
    """Work after each optimiser step: metrics, end of epoch, checkpoint, stop, evaluation.

    In this order a checkpoint at an epoch's last step includes the epoch's metrics, and a process
    killed before it was written computes them again. A process killed during evaluations resumes
    from the checkpoint written for them, and does the missing ones. Checkpoints are written by a
    thread; an evaluation, a stop and the end wait for the last one.
    """

    def __init__(
        self,
        events: EventWriter,
        writer: CheckpointWriter,
        stop: StopSignal,
        evaluator: Evaluator,
        film: Film,
        monitor: Monitor,
        first: int,
        trained_seconds: float,
    ) -> None:
        self._events = events
        self._writer = writer
        self._stop = stop
        self._evaluator = evaluator
        self._film = film
        self._monitor = monitor
        self._first = first
        self._trained_before = trained_seconds
        self._started = self._saved = time.monotonic()
        self._told = 0.0
        self._epoch_metrics: dict[str, float] = {}

    def on_train_start(
        self,
        trainer: pl.Trainer,  # noqa: ARG002
        pl_module: pl.LightningModule,
    ) -> None:
        """Do the evaluations that a killed process left undone, and start the clocks."""
        assert isinstance(pl_module, PretrainModule)
        if self._first == 0:
            self._film.take(pl_module, 0)
        self._evaluate(pl_module, self._first)
        self._started = self._saved = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,  # noqa: ARG002
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: int,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Do the work between two optimiser steps."""
        assert isinstance(pl_module, PretrainModule)
        if not pl_module.plan.ends_step(batch):
            return
        step = (batch + 1) // pl_module.plan.accumulate_steps
        self._tell_metrics(pl_module, step)
        if step % pl_module.plan.steps_per_epoch == 0:
            self._end_epoch(pl_module, step)
            self._film.take(pl_module, step)
        self._tell_progress(pl_module, step)
        out_of_time = step < pl_module.plan.total_steps and self._out_of_time(pl_module)
        # Read once: a later request is handled after the next step.
        stopping = self._stop.requested
        self._checkpoint(pl_module, step, out_of_time=out_of_time, stopping=stopping)
        if out_of_time or stopping:
            self._writer.flush()
        if stopping:
            self._stop.check()
        if out_of_time:
            assert pl_module.spec.max_hours is not None
            raise TimeLimitError(pl_module.spec.max_hours, step, pl_module.plan.total_steps)
        self._evaluate(pl_module, step)

    def _tell_metrics(self, module: PretrainModule, step: int) -> None:
        if step % module.spec.log_every_steps and step != module.plan.total_steps:
            return
        assert module.last_draw is not None
        values = {
            "loss": module.loss.read(),
            "lr": module.learning_rate(step - 1),
            "masked_share": module.last_draw.masked_share,
        }
        epoch = step / module.plan.steps_per_epoch
        self._events.write(MetricsEvent(step=step, epoch=epoch, values=values))

    def _end_epoch(self, module: PretrainModule, step: int) -> None:
        plan = module.plan
        epoch = step // plan.steps_per_epoch
        module.loss.read()  # raises if the loss is not finite: such an epoch reports no metrics
        values = module.sums.means("train", module.probe_accuracy)
        module.sums = EpochSums(module.method.bands.names)
        due = epoch % module.spec.validate_every_epochs == 0 or epoch == plan.epochs
        chooses = module.spec.checkpoint.keep_best is not None and self._is_kept(module, step)
        if module.data.has_val and (due or chooses):
            values |= module.validate()
        if self._monitor.due(epoch, chooses=chooses):
            statistics = PixelStatistics(module.pixel_mean, module.pixel_std)
            values |= self._monitor.measure(module.model.encoder, statistics)
        self._epoch_metrics = finite(values)
        self._events.write(MetricsEvent(step=step, epoch=epoch, values=self._epoch_metrics))
        figures = ", ".join(
            f"{name} {value:.4f}" for name, value in values.items() if name not in BAND_METRICS
        )
        _log.info("epoch %d/%d: %s", epoch, plan.epochs, figures)

    def _tell_progress(self, module: PretrainModule, step: int) -> None:
        now, plan = time.monotonic(), module.plan
        if now - self._told < _PROGRESS_SECONDS and step != plan.total_steps:
            return
        self._told = now
        steps_per_second = (step - self._first) / max(now - self._started, 1e-9)
        self._events.write(
            ProgressEvent(
                stage="pretrain",
                done=step,
                total=plan.total_steps,
                epoch=step // plan.steps_per_epoch,
                total_epochs=plan.epochs,
                loss=module.loss.read(),
                images_per_second=steps_per_second * plan.images_per_step,
                eta_seconds=(plan.total_steps - step) / steps_per_second,
            )
        )

    def _trained_seconds(self) -> float:
        return self._trained_before + time.monotonic() - self._started

    def _out_of_time(self, module: PretrainModule) -> bool:
        hours = module.spec.max_hours
        return hours is not None and self._trained_seconds() >= 3600 * hours

    def _checkpoint(
        self, module: PretrainModule, step: int, *, out_of_time: bool, stopping: bool
    ) -> None:
        plan = module.plan
        kept = self._is_kept(module, step)
        writer, since = self._writer, time.monotonic() - self._saved
        due = not writer.busy and since >= writer.interval_seconds
        waiting = self._evaluator.due(step / plan.steps_per_epoch)
        if not (kept or due or waiting or out_of_time or stopping):
            return
        module.loss.read()  # raises if the loss is not finite: such a step is not checkpointed
        state = module.training_state()
        # Resuming a run that ran out of time grants it the same time again.
        seconds = 0.0 if out_of_time else self._trained_seconds()
        state = replace(state, counters=state.counters | {_TRAINED_SECONDS: seconds})
        writer.write(
            kind="kept" if kept else "latest",
            step=step,
            epoch=step / plan.steps_per_epoch,
            state=state,
            metrics=self._epoch_metrics if step % plan.steps_per_epoch == 0 else {},
        )
        self._saved = time.monotonic()

    def _evaluate(self, module: PretrainModule, step: int) -> None:
        epoch = step / module.plan.steps_per_epoch
        if self._evaluator.due(epoch):
            self._writer.flush()
            began = time.monotonic()
            self._evaluator.run(module, step, epoch)
            self._started += time.monotonic() - began

    def _is_kept(self, module: PretrainModule, step: int) -> bool:
        plan = module.plan
        every = module.spec.checkpoint.every_epochs * plan.steps_per_epoch
        return step in (plan.total_steps, *milestone_steps(module)) or step % every == 0


def milestone_steps(module: PretrainModule) -> frozenset[int]:
    """Return the steps whose checkpoints the spec keeps as milestones."""
    epochs = module.spec.checkpoint.milestones
    return frozenset(epoch * module.plan.steps_per_epoch for epoch in epochs)
