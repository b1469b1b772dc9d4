"""What the system routes look up."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.broker import BROKER_ERRORS
from api.context import Services
from api.db.clock import database_now
from api.db.tables import WorkerRow
from api.runs.views import moment
from api.settings import ApiSettings
from pmae.data.catalog import DATASETS, dataset_facts
from pmae.data.locate import locate, own_datasets
from pmae.presets import Preset
from pmae.schema import DatasetView, PresetView, Readiness, WorkerView
from pmae.settings import StorageSettings
from pmae.spec import resolve

_logger = logging.getLogger(__name__)


def preset_view(preset: Preset) -> PresetView:
    """A preset with its spec resolved."""
    return PresetView(
        name=preset.name,
        summary=preset.summary,
        cost=preset.cost,
        expect=preset.expect,
        spec=resolve(preset.spec),
    )


def list_datasets(settings: StorageSettings) -> list[DatasetView]:
    """The known data sets, then the folders and files under the data root a spec can name."""
    names = [*DATASETS, *own_datasets(settings)]
    return [_dataset_view(name, settings) for name in names]


def _dataset_view(name: str, settings: StorageSettings) -> DatasetView:
    facts, location = dataset_facts(name), locate(name, settings)
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
    """The workers that were heard of within ``silence_seconds``, by name."""
    rows = session.scalars(
        select(WorkerRow)
        .where(WorkerRow.last_seen_at > database_now() - silence_seconds)
        .order_by(WorkerRow.name)
    ).all()
    return [
        WorkerView(
            name=row.name,
            host=row.host,
            last_seen_at=moment(row.last_seen_at),
            run_id=row.run_id,
        )
        for row in rows
    ]


def check_readiness(services: Services) -> Readiness:
    """Whether database, broker and storage can be used; asks all three at once."""
    checks: dict[str, Callable[[], str]] = {
        "database": lambda: _check_database(services),
        "broker": lambda: _check_broker(services),
        "storage": lambda: _check_storage(services.settings),
    }
    with ThreadPoolExecutor(len(checks)) as pool:
        running = {name: pool.submit(check) for name, check in checks.items()}
        answers = {name: future.result() for name, future in running.items()}
    return Readiness(ready=all(answer == "ok" for answer in answers.values()), checks=answers)


def _check_database(services: Services) -> str:
    try:
        with services.sessions() as session:
            session.execute(select(1))
    except SQLAlchemyError as error:
        _logger.warning("the database does not answer: %s", error)
        return "does not answer"
    return "ok"


def _check_broker(services: Services) -> str:
    try:
        services.doorbell.waiting_messages()
    except BROKER_ERRORS as error:
        _logger.warning("the broker does not answer: %s", error)
        return "does not answer"
    return "ok"


def _check_storage(settings: ApiSettings) -> str:
    try:
        settings.artifact_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.artifact_dir) as file:
            file.write(b"ok")
            file.flush()
        free = shutil.disk_usage(settings.artifact_dir).free
    except OSError as error:
        return f"cannot be written: {os.strerror(error.errno or 0)}"
    if free < settings.min_free_disk_bytes:
        return f"{free:,} bytes are free, fewer than {settings.min_free_disk_bytes:,}"
    return "ok"
