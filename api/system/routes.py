"""Presets, data sets, workers, and health: the routes."""

from __future__ import annotations

import http
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.context import ServicesDep
from api.errors import NotFoundError
from api.openapi import problems
from api.system import service
from pmae.errors import SpecError
from pmae.presets import PRESETS, get_preset
from pmae.schema import DatasetView, PresetView, Readiness, WorkerView

router = APIRouter()


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


@router.get("/presets", response_model=list[PresetView], tags=["catalogue"], summary="List presets")
def list_presets() -> list[PresetView]:
    """The named specs, resolved: what each shows, costs, and gives."""
    return [service.preset_view(preset) for preset in PRESETS.values()]


@router.get(
    "/presets/{name}",
    response_model=PresetView,
    tags=["catalogue"],
    summary="Get a preset",
    responses=problems(not_found="There is no such preset."),
)
def read_preset(name: str) -> PresetView:
    """One named spec, resolved. `POST /runs?preset=<name>` submits it."""
    try:
        preset = get_preset(name)
    except SpecError as error:
        raise NotFoundError(str(error), code="preset_not_found") from error
    return service.preset_view(preset)


@router.get(
    "/datasets", response_model=list[DatasetView], tags=["catalogue"], summary="List data sets"
)
def list_datasets(services: ServicesDep) -> list[DatasetView]:
    """The data sets that a spec can name, and whether their files are where the API looks."""
    return service.list_datasets(services.settings)


@router.get("/workers", response_model=list[WorkerView], tags=["service"], summary="List workers")
def list_workers(services: ServicesDep) -> list[WorkerView]:
    """The workers that were heard of within a lease's time, and what each one runs."""
    with services.sessions() as session:
        return service.list_workers(session, silence_seconds=services.settings.lease_seconds)


@router.head("/livez", include_in_schema=False)
@router.get("/livez", response_model=Liveness, tags=["service"], summary="Is the process alive?")
async def livez() -> Liveness:
    """Asks nothing of the database or the broker."""
    return Liveness()


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    response_model=Readiness,
    tags=["service"],
    summary="Can the service do its work?",
    responses={503: {"model": Readiness, "description": "Not now; `checks` says what is wrong."}},
)
def readyz(services: ServicesDep, response: Response) -> Readiness:
    """Asks the database, the broker and the artifact disk."""
    readiness = service.check_readiness(services)
    if not readiness.ready:
        response.status_code = http.HTTPStatus.SERVICE_UNAVAILABLE
    return readiness
