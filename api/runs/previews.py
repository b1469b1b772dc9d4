"""What a run would cost, before it is submitted."""

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
_MOST_EPOCHS = 200
_LEAST_SPANS = 3
"""Between ends of epochs: the first one warms up, and of so few one that was held up counts."""
_MOST_RUNS = 200
"""Succeeded runs of the same method and data set that are compared, newest first."""
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
"""Runs that have all of these in common train equally fast, but for the machine."""


def preview_response(
    sessions: sessionmaker[Session], spec: RunSpec, settings: ApiSettings
) -> Response:
    """Answer with what would be queued.

    Raises:
        ApiError: the checkpoint that it needs is not one that it can use.
    """
    with sessions() as session:  # not committed: what is held is let go
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
    """A sentence for each field that is fitted to the number of training images, if it is known."""
    if isinstance(spec, EvaluateSpec):
        return []
    num_train = known_train_images(spec.dataset)
    return [] if num_train is None else check_sizes(spec, num_train)


def _missing_data(spec: RunSpec, settings: StorageSettings) -> Iterator[str]:
    """A sentence for each data set that cannot be read here; workers elsewhere may have it."""
    wanted = [one.dataset for one in spec.evaluations if one.dataset is not None]
    if isinstance(spec, ExperimentSpec):
        wanted.insert(0, spec.dataset)
    for dataset in {dataset.name: dataset for dataset in wanted}.values():
        location = locate(dataset.name, settings, dataset.resolution)
        if not location.available:
            how = "cannot be read" if location.unreadable else "is not"
            yield f"the data set {dataset.name} {how} on the service's machine: {location.message}"


def estimate(session: Session, spec: ExperimentSpec) -> Estimate:
    """What a resolved spec would cost, by formulas and by what like runs took."""
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
    """By the newest run that is like ``spec`` and has enough epochs to measure."""
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
        .limit(_MOST_RUNS)
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
    """Of a stored spec; one of an older version is read as it is meant."""
    if spec.get("version") != SPEC_VERSION:
        with suppress(SpecError):  # what this version does not run is like none of its specs
            spec = resolve(ExperimentSpec.model_validate(spec)).model_dump(mode="json")
    return {name: spec.get(name) for name in _DECIDES_SPEED}


def _seconds_per_epoch(session: Session, run_number: int) -> float | None:
    """The median over the last epochs: pauses and resumed parts do not count."""
    points = session.execute(
        select(MetricRow.epoch, MetricRow.time)
        .where(MetricRow.run_number == run_number, MetricRow.name == EPOCH_LOSS)
        .order_by(MetricRow.step.desc())
        .limit(_MOST_EPOCHS + 1)
    ).all()
    spans = [
        (later.time - earlier.time) / (later.epoch - earlier.epoch)
        for later, earlier in itertools.pairwise(points)
        if later.epoch > earlier.epoch and later.time > earlier.time
    ]
    return statistics.median(spans) if len(spans) >= _LEAST_SPANS else None
