"""Queries of the catalogue routes."""

from __future__ import annotations

import logging

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.db.tables import RunRow, WorkerRow
from api.http.errors import NotFoundError
from api.queue.reconcile import present
from api.runs.views import moment
from pmae.data import locate
from pmae.data.locate import Listed
from pmae.errors import MethodError
from pmae.presets import Family, Preset
from pmae.schema import DatasetView, PresetParameter, PresetView, ProblemField, WorkerView
from pmae.schema.methods import MethodView
from pmae.settings import StorageSettings
from pmae.spec import resolve
from pmae.spec.methods import get_method, method_names

_logger = logging.getLogger(__name__)


def family_view(family: Family) -> PresetView:
    """Convert a family under its own name, with the spec of its defaults."""
    view = preset_view(family.preset(""), family)
    return view.model_copy(update={"name": family.name, "summary": family.summary})


def preset_view(preset: Preset, family: Family | None = None) -> PresetView:
    """Convert a preset: its resolved spec, and the parameters of its family, if any."""
    parameters = family.parameters if family else ()
    return PresetView(
        name=preset.name,
        summary=preset.summary,
        command=preset.command,
        cost=preset.cost,
        expect=preset.expect,
        spec=resolve(preset.spec),
        parameters=[
            PresetParameter(
                name=parameter.name,
                meaning=parameter.meaning,
                valid=parameter.valid,
                default=parameter.default,
            )
            for parameter in parameters
        ],
    )


def list_methods() -> list[MethodView]:
    """The methods that are installed, the default first; one that cannot be loaded is left out."""
    found = []
    for name in method_names():
        try:
            method = get_method(name)
        except MethodError as error:
            _logger.warning("%s", error)
            continue
        found.append(
            MethodView(
                name=name,
                title=method.title,
                parts=method.parts_name,
                strategies=list(method.strategies),
                has_basis=method.default_basis is not None,
            )
        )
    return found


def list_datasets(settings: StorageSettings) -> list[DatasetView]:
    """List the known data sets, then those under the data root, with the faults of each."""
    return [_dataset_view(listed) for listed in locate.list_datasets(settings)]


def _dataset_view(listed: Listed) -> DatasetView:
    facts, location = listed.facts, listed.location
    return DatasetView(
        name=facts.name,
        title=facts.title,
        resolution=facts.resolution,
        patch_size=facts.patch_size,
        channels=facts.channels,
        num_classes=facts.num_classes,
        available=location.available,
        message=location.message,
    )


def list_workers(session: Session, *, silence_seconds: float) -> list[WorkerView]:
    """List the workers with a heartbeat within ``silence_seconds``, by name."""
    rows = session.execute(
        select(WorkerRow, RunRow.id)
        .outerjoin(RunRow, (RunRow.worker == WorkerRow.name) & (RunRow.state == "running"))
        .where(present(silence_seconds))
        .order_by(WorkerRow.name)
    ).all()
    return [
        WorkerView(
            name=worker.name,
            host=worker.host,
            started_at=moment(worker.started_at),
            last_seen_at=moment(worker.last_seen_at),
            kinds=worker.kinds,
            devices=worker.devices,
            draining=worker.drain_requested,
            run_id=run_id,
        )
        for worker, run_id in rows
    ]


def ask_to_drain(session: Session, name: str, *, drain: bool) -> None:
    """Ask a worker to drain, or to claim runs again, at its next heartbeat.

    Raises:
        NotFoundError: there is no worker of that name.
    """
    found = session.execute(
        update(WorkerRow)
        .where(WorkerRow.name == name)
        .values(drain_requested=drain)
        .returning(WorkerRow.name)
    ).scalar_one_or_none()
    if found is None:
        message = f"there is no worker {name!r}; GET /api/v1/workers lists them"
        field = ProblemField(pointer="name", message=message)
        raise NotFoundError(message, code="worker_not_found", fields=[field])
