"""Previews of submissions: the resolved spec, its estimated cost, and warnings."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from fastapi import Response
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.db.tables import MetricRow, RunRow
from api.queue.waiting import Slots
from api.runs.sources import prepare
from api.settings import ApiSettings
from pmae.data.locate import locate
from pmae.errors import SpecError
from pmae.metrics import EPOCH_LOSS
from pmae.schema.runs import (
    Estimate,
    MeasuredSpeed,
    MemoryEstimate,
    ParameterCounts,
    SubmitPreview,
)
from pmae.settings import StorageSettings
from pmae.spec import EvaluateSpec, ExperimentSpec, RunSpec, resolve
from pmae.spec.catalog import dataset_facts
from pmae.spec.estimate import (
    checkpoint_bytes,
    decoder_parameters,
    encoder_parameters,
    steps_per_epoch,
    training_memory,
)
from pmae.spec.sizes import check_sizes, known_train_images
from pmae.spec.versions import SPEC_VERSION

_ASSUMED_CHANNELS = 3
_MAX_EPOCHS = 200
_MIN_SPANS = 3
"""Epochs needed for a median: with fewer, one slow epoch (such as the first) decides it."""
_MAX_RUNS = 200
"""Succeeded runs of the same method and data set to compare with, newest first."""
_DECIDES_SPEED = (
    "dataset",
    "basis",
    "masking",
    "model",
    "batch_size",
    "accumulate_steps",
    "devices",
    "precision",
    "compile",
    "threads",
    "validate_every_epochs",
)
"""Fields that determine the speed of training, apart from the machine."""


def preview_response(
    sessions: sessionmaker[Session], spec: RunSpec, settings: ApiSettings
) -> Response:
    """Return the spec that would be queued, with its estimate and warnings.

    Raises:
        ApiError: the checkpoint that the spec names is missing or unsuitable.
    """
    with sessions() as session:  # not committed, so the checkpoint is not held
        spec, _ = prepare(session, spec, settings.runs_dir)
    with sessions() as session:
        cost = None if isinstance(spec, EvaluateSpec) else estimate(session, spec)
        slots = Slots(session, silence_seconds=settings.lease_seconds)
    devices = 1 if isinstance(spec, EvaluateSpec) else spec.devices
    warnings = [
        *_fitted_sizes(spec),
        *_missing_data(spec, settings),
        slots.why_none(spec.kind, devices),
    ]
    preview = SubmitPreview(spec=spec, estimate=cost, warnings=[*filter(None, warnings)])
    return Response(preview.model_dump_json(), media_type="application/json")


def _fitted_sizes(spec: RunSpec) -> list[str]:
    """Describe each field that is adapted to the number of training images, if that is known."""
    if isinstance(spec, EvaluateSpec):
        return []
    num_train = known_train_images(spec.dataset)
    return [] if num_train is None else check_sizes(spec, num_train)


def _missing_data(spec: RunSpec, settings: StorageSettings) -> Iterator[str]:
    """Describe each data set that cannot be read on this machine; workers elsewhere may have it."""
    wanted = [one.dataset for one in spec.evaluations if one.dataset is not None]
    if isinstance(spec, ExperimentSpec):
        wanted.insert(0, spec.dataset)
    for dataset in {dataset.name: dataset for dataset in wanted}.values():
        location = locate(dataset.name, settings, dataset.resolution)
        if not location.available:
            how = "cannot be read" if location.unreadable else "is not"
            yield f"the data set {dataset.name} {how} on the service's machine: {location.message}"


def estimate(session: Session, spec: ExperimentSpec) -> Estimate:
    """Estimate the cost of a resolved spec, by formulas and from the speed of similar runs."""
    channels = dataset_facts(spec.dataset.name).channels or _ASSUMED_CHANNELS
    memory = training_memory(spec, channels)
    train_images = known_train_images(spec.dataset)
    steps = None if train_images is None else spec.epochs * steps_per_epoch(spec, train_images)
    return Estimate(
        channels=channels,
        parameters=ParameterCounts(
            encoder=encoder_parameters(spec, channels), decoder=decoder_parameters(spec, channels)
        ),
        memory_bytes=MemoryEstimate(
            weights=memory.weights,
            gradients=memory.gradients,
            optimizer=memory.optimizer,
            activations=memory.activations,
            basis=memory.basis,
            total=memory.total,
        ),
        checkpoint_bytes=checkpoint_bytes(spec, channels),
        train_images=train_images,
        steps=steps,
        images_seen=(
            None
            if steps is None or train_images is None
            else steps * min(spec.batch_size, train_images)
        ),
        measured=_measured(session, spec),
    )


def _measured(session: Session, spec: ExperimentSpec) -> MeasuredSpeed | None:
    """Measure the newest similar run that has enough epochs."""
    wanted = spec.model_dump(mode="json", include=set(_DECIDES_SPEED))
    rows = session.execute(
        select(RunRow.number, RunRow.id, RunRow.spec)
        .where(
            RunRow.state == "succeeded",
            RunRow.deleted_at.is_(None),
            RunRow.kind == spec.kind,
            RunRow.method == spec.method,
            RunRow.dataset == spec.dataset.name,
        )
        .order_by(RunRow.number.desc())
        .limit(_MAX_RUNS)
    )
    for number, run_id, other in rows.all():
        if _decides_speed(other) == wanted:
            seconds = _seconds_per_epoch(session, number)
            if seconds is not None:
                return MeasuredSpeed(
                    run_id=run_id,
                    epochs_per_minute=60 / seconds,
                    pretraining_seconds=spec.epochs * seconds,
                )
    return None


def _decides_speed(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a stored spec that determine its speed; upgrade older versions."""
    if spec.get("version") != SPEC_VERSION:
        with suppress(SpecError):  # a spec that this version cannot run matches none
            spec = resolve(ExperimentSpec.model_validate(spec)).model_dump(mode="json")
    return {name: spec.get(name) for name in _DECIDES_SPEED}


def _seconds_per_epoch(session: Session, run_number: int) -> float | None:
    """Return the median over the last epochs, which pauses and resumes do not affect."""
    points = session.execute(
        select(MetricRow.epoch, MetricRow.time)
        .where(MetricRow.run_number == run_number, MetricRow.name == EPOCH_LOSS)
        .order_by(MetricRow.step.desc())
        .limit(_MAX_EPOCHS + 1)
    ).all()
    spans = [
        (later.time - earlier.time) / (later.epoch - earlier.epoch)
        for later, earlier in itertools.pairwise(points)
        if later.epoch > earlier.epoch and later.time > earlier.time
    ]
    return statistics.median(spans) if len(spans) >= _MIN_SPANS else None
