"""Presets, data sets, workers, and health: the routes."""

from __future__ import annotations

import http
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from api.auth.principal import StrangerOrPrincipalDep
from api.auth.requirements import ADMIN, EVERYBODY, VIEWER
from api.catalogue import service
from api.http.errors import InvalidRequestError, NotFoundError
from api.http.responses import binary, problems
from api.queue import waiting
from api.services import ServicesDep
from pmae.errors import SpecError
from pmae.presets import FAMILIES, PRESETS, UnknownPresetError, get_preset
from pmae.schema import (
    DatasetView,
    PresetView,
    ProblemField,
    Queue,
    Readiness,
    WorkerView,
)
from pmae.schema.methods import MethodView
from pmae.spec.messages import NO_NUL

WorkerName = Annotated[
    str, Path(max_length=200, pattern=NO_NUL, description="The worker's `name`.")
]
_NO_WORKER = problems(not_found="There is no such worker.")

router = APIRouter()
metrics_router = APIRouter()
"""Where Prometheus looks, beside the versioned routes."""


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


@router.get(
    "/presets",
    response_model=list[PresetView],
    tags=["catalogue"],
    summary="List presets",
    dependencies=[VIEWER],
)
def list_presets() -> list[PresetView]:
    """The named specs, resolved: what each shows, costs, and gives.

    A family of specs stands once, with the `parameters` that its name takes.
    """
    singles = [service.preset_view(preset) for preset in PRESETS.values()]
    return [*singles, *(service.family_view(family) for family in FAMILIES.values())]


@router.get(
    "/presets/{name}",
    response_model=PresetView,
    tags=["catalogue"],
    summary="Get a preset",
    responses=problems(
        not_found="There is no such preset.",
        unprocessable_entity="A parameter of the family is not valid.",
    ),
    dependencies=[VIEWER],
)
def read_preset(name: str, request: Request) -> PresetView:
    """One named spec, resolved. `POST /runs?preset=<name>` submits it.

    The parameters of a family are those of the address, `/presets/paper?dataset=cifar10&ratio=0.2`,
    or a part of the name, encoded: `/presets/paper%3Fdataset%3Dcifar10%26ratio%3D0.2`.
    """
    query = request.url.query
    whole = f"{name}?{query}" if query else name
    try:
        preset = get_preset(whole)
    except UnknownPresetError as error:
        raise NotFoundError(str(error), code="preset_not_found") from error
    except SpecError as error:
        fields = [ProblemField(pointer=name, message=str(error)) for name in error.field]
        raise InvalidRequestError(str(error), fields=fields) from error
    return service.preset_view(preset, FAMILIES.get(whole.partition("?")[0]))


@router.get(
    "/methods",
    response_model=list[MethodView],
    tags=["catalogue"],
    summary="List methods",
    dependencies=[VIEWER],
)
def list_methods() -> list[MethodView]:
    """The methods that a spec can name: what each masks, and how."""
    return service.list_methods()


@router.get(
    "/datasets",
    response_model=list[DatasetView],
    tags=["catalogue"],
    summary="List data sets",
    dependencies=[VIEWER],
)
def list_datasets(services: ServicesDep) -> list[DatasetView]:
    """The data sets that a spec can name, and whether their files are where the API looks."""
    return service.list_datasets(services.settings)


@router.get(
    "/workers",
    response_model=list[WorkerView],
    tags=["service"],
    summary="List workers",
    dependencies=[VIEWER],
)
def list_workers(services: ServicesDep) -> list[WorkerView]:
    """The workers that were heard of within a lease's time, and what each one runs."""
    with services.sessions() as session:
        return service.list_workers(session, silence_seconds=services.settings.lease_seconds)


@router.post(
    "/workers/{name}/drain",
    status_code=http.HTTPStatus.NO_CONTENT,
    response_model=None,
    tags=["service"],
    summary="Drain a worker",
    responses=_NO_WORKER,
    dependencies=[ADMIN],
)
def drain_worker(services: ServicesDep, name: WorkerName) -> None:
    """Ask a worker to take no more runs, and to checkpoint and give back the one it has.

    It hears of it at its next sign of life. Before its machine is switched off, for example.
    """
    with services.sessions.begin() as session:
        service.ask_to_drain(session, name, drain=True)


@router.post(
    "/workers/{name}/undrain",
    status_code=http.HTTPStatus.NO_CONTENT,
    response_model=None,
    tags=["service"],
    summary="Let a worker take runs again",
    responses=_NO_WORKER,
    dependencies=[ADMIN],
)
def undrain_worker(services: ServicesDep, name: WorkerName) -> None:
    """Take a request to drain back."""
    with services.sessions.begin() as session:
        service.ask_to_drain(session, name, drain=False)


@router.get(
    "/queue",
    response_model=Queue,
    tags=["service"],
    summary="List what waits",
    dependencies=[VIEWER],
)
def list_queue(services: ServicesDep) -> Queue:
    """The runs that wait, in the order in which they start, each with why it has not begun."""
    with services.sessions() as session:
        return waiting.list_queue(session, silence_seconds=services.settings.lease_seconds)


@router.head("/livez", include_in_schema=False, dependencies=[EVERYBODY])
@router.get(
    "/livez",
    response_model=Liveness,
    tags=["service"],
    summary="Is the process alive?",
    dependencies=[EVERYBODY],
)
async def livez() -> Liveness:
    """Asks nothing of the database or the broker."""
    return Liveness()


@router.head("/readyz", include_in_schema=False, dependencies=[EVERYBODY])
@router.get(
    "/readyz",
    response_model=Readiness,
    tags=["service"],
    summary="Can the service do its work?",
    responses={503: {"model": Readiness, "description": "Not now; `checks` says what is wrong."}},
    dependencies=[EVERYBODY],
)
async def readyz(
    services: ServicesDep, principal: StrangerOrPrincipalDep, response: Response
) -> Readiness:
    """Asks the database, the broker and the artifact disk. Strangers are not told which."""
    readiness = await services.readiness.ask()
    if not readiness.ready:
        response.status_code = http.HTTPStatus.SERVICE_UNAVAILABLE
    return readiness if principal else readiness.model_copy(update={"checks": {}})


@metrics_router.get(
    "/metrics",
    response_class=Response,
    tags=["service"],
    summary="Figures for Prometheus",
    responses=binary(CONTENT_TYPE_LATEST.partition(";")[0], "Prometheus's text format."),
    dependencies=[VIEWER],
)
def read_figures(services: ServicesDep) -> Response:
    """Runs by state, queues and how long they wait, workers, disk, lost leases, request durations.

    What is counted (requests, lost leases) is counted since this process started.
    """
    return Response(services.instruments.text(), media_type=CONTENT_TYPE_LATEST)
