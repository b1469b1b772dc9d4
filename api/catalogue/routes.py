"""Routes of presets, data sets, workers, the queue and health."""

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
"""The route of Prometheus, outside of the versioned prefix."""


class Liveness(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


@router.get(
    "/presets",
    response_model=list[PresetView],
    tags=["catalogue"],
    summary="List presets",
    dependencies=[VIEWER],
)
def list_presets() -> list[PresetView]:
    """List the presets: resolved specs with a summary, their cost and expected results.

    A family of presets is listed once, with the `parameters` of its name.
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
        unprocessable_entity="A parameter of the family is invalid.",
    ),
    dependencies=[VIEWER],
)
def read_preset(name: str, request: Request) -> PresetView:
    """Return one preset, resolved. `POST /runs?preset=<name>` submits it.

    Parameters of a family are query parameters, `/presets/paper?dataset=cifar10&ratio=0.2`, or part
    of the encoded name: `/presets/paper%3Fdataset%3Dcifar10%26ratio%3D0.2`.
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
    """List the data sets that a spec can name, and the state of their files on this machine."""
    return service.list_datasets(services.settings)


@router.get(
    "/workers",
    response_model=list[WorkerView],
    tags=["service"],
    summary="List workers",
    dependencies=[VIEWER],
)
def list_workers(services: ServicesDep) -> list[WorkerView]:
    """List the workers with a recent heartbeat, and the run of each."""
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
    """Ask a worker to claim no more runs, and to checkpoint and give back its current one.

    It does so at its next heartbeat. Useful before its machine is switched off.
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
    """Cancel a request to drain."""
    with services.sessions.begin() as session:
        service.ask_to_drain(session, name, drain=False)


@router.get(
    "/queue",
    response_model=Queue,
    tags=["service"],
    summary="List the queue",
    dependencies=[VIEWER],
)
def list_queue(services: ServicesDep) -> Queue:
    """List the queued runs in the order in which they start, with the reason why each waits."""
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
    """Report that the process is alive, without use of the database or the broker."""
    return Liveness()


@router.head("/readyz", include_in_schema=False, dependencies=[EVERYBODY])
@router.get(
    "/readyz",
    response_model=Readiness,
    tags=["service"],
    summary="Can the service do its work?",
    responses={503: {"model": Readiness, "description": "Not ready; `checks` says why."}},
    dependencies=[EVERYBODY],
)
async def readyz(
    services: ServicesDep, principal: StrangerOrPrincipalDep, response: Response
) -> Readiness:
    """Check the database, the broker and the artifact disk. Details need a key."""
    readiness = await services.readiness.ask()
    if not readiness.ready:
        response.status_code = http.HTTPStatus.SERVICE_UNAVAILABLE
    return readiness if principal else readiness.model_copy(update={"checks": {}})


@metrics_router.get(
    "/metrics",
    response_class=Response,
    tags=["service"],
    summary="Metrics for Prometheus",
    responses=binary(CONTENT_TYPE_LATEST.partition(";")[0], "Prometheus's text format."),
    dependencies=[VIEWER],
)
def read_figures(services: ServicesDep) -> Response:
    """Report runs by state, queues and waiting times, workers, disk, leases and request durations.

    Counters (requests, expired leases) start at 0 with this process.
    """
    return Response(services.prometheus.text(), media_type=CONTENT_TYPE_LATEST)
