"""``/runs``: the routes. They connect; :mod:`api.runs.service` and its neighbours do the work."""

from __future__ import annotations

import http
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from api.context import ServicesDep
from api.db import run_states
from api.openapi import API_PREFIX, binary, problems
from api.parameters import RunId, refuse_unknown_parameters
from api.runs import service
from api.runs.components import get_component_png, get_spectrum
from api.runs.events import open_stream
from api.runs.log import read_log
from api.runs.metrics import get_metrics
from api.runs.submission import read_spec
from api.runs.views import run_view
from pmae.layout import RunDir
from pmae.presets import PRESETS
from pmae.schema import (
    CheckpointList,
    History,
    LogChunk,
    Metrics,
    Run,
    RunPage,
    Spectrum,
)

MOST_BYTES_OF_LOG = 1_048_576
LARGEST_INTEGER = 2**53
"""The largest that JSON carries without loss."""
ACTOR = "api"

router = APIRouter(prefix="/runs", tags=["runs"], dependencies=[Depends(refuse_unknown_parameters)])

_NO_RUN = problems(not_found="There is no such run.")
_SPEC_BODY = {
    "requestBody": {
        "description": "The spec. With `?preset=`, the fields to change in the preset's.",
        "required": False,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ExperimentSpec"},
                "examples": {
                    preset.name: {
                        "summary": preset.summary,
                        "value": preset.spec.model_dump(mode="json", exclude_unset=True),
                    }
                    for preset in PRESETS.values()
                },
            }
        },
    }
}


@router.post(
    "",
    status_code=http.HTTPStatus.ACCEPTED,
    response_model=Run,
    summary="Submit a run",
    responses=problems(
        bad_request="The body is not JSON.",
        unprocessable_entity="The spec cannot be run; `errors` names each bad field.",
        request_entity_too_large="The body is too long.",
        unsupported_media_type="The body is not application/json.",
    )
    | {202: {"headers": {"Location": {"schema": {"type": "string"}}}}},
    openapi_extra=_SPEC_BODY,
)
def submit_run(
    services: ServicesDep,
    response: Response,
    body: Annotated[dict[str, Any] | None, Body()] = None,
    preset: Annotated[
        str | None, Query(description="Start from this preset; the body's fields replace its own.")
    ] = None,
    priority: Annotated[
        int, Query(ge=-1000, le=1000, description="Runs of a higher priority start first.")
    ] = 0,
) -> Run:
    """Validate a spec, write its defaults out, and queue it.

    The answer carries the resolved spec; `Location` is where the run is followed. Over a preset,
    objects are merged field by field, anything else is replaced, and `null` takes a field of the
    preset back to its default (RFC 7396).
    """
    spec = read_spec(body, preset)
    with services.sessions.begin() as session:
        row = run_states.submit(session, spec=spec, preset=preset, priority=priority)
        run = run_view(row, [])
    services.doorbell.ring_soon()
    response.headers["Location"] = f"{API_PREFIX}/runs/{run.id}"
    return run


@router.get(
    "",
    response_model=RunPage,
    summary="List runs",
    responses=problems(unprocessable_entity="A filter is not valid."),
)
def list_runs(services: ServicesDep, filters: Annotated[service.RunFilters, Query()]) -> RunPage:
    """The newest runs first, in pages; filters are combined by "and"."""
    with services.sessions() as session:
        return service.list_runs(session, filters)


@router.get("/{run_id}", response_model=Run, summary="Get a run", responses=_NO_RUN)
def get_run(services: ServicesDep, run_id: RunId) -> Run:
    """A run in full: its resolved spec, state, newest figures and evaluations."""
    with services.sessions() as session:
        return service.get_run(
            session, run_id, worker_silence_seconds=services.settings.lease_seconds
        )


@router.post(
    "/{run_id}/cancel",
    status_code=http.HTTPStatus.ACCEPTED,
    response_model=Run,
    summary="Cancel a run",
    responses=_NO_RUN | problems(conflict="The run has ended already."),
)
def cancel_run(services: ServicesDep, run_id: RunId) -> Run:
    """Stop a run: a queued one at once, a running one as soon as its process is gone.

    Until then its state stays `running` and `cancel_requested` is true. Asking twice is no error.
    """
    with services.sessions.begin() as session:
        run_states.request_cancel(session, run_id, actor=ACTOR)
    with services.sessions() as session:
        return service.get_run(
            session, run_id, worker_silence_seconds=services.settings.lease_seconds
        )


@router.get(
    "/{run_id}/metrics", response_model=Metrics, summary="Get metric series", responses=_NO_RUN
)
def get_run_metrics(
    services: ServicesDep,
    run_id: RunId,
    names: Annotated[
        str | None,
        Query(
            description="Which metrics, with commas between; default: all.",
            examples=["loss,val_loss"],
            max_length=4_000,
            pattern=r"^[^\x00]*$",
        ),
    ] = None,
    max_points: Annotated[
        int, Query(ge=4, le=100_000, description="Most points of each series.")
    ] = 400,
) -> Metrics:
    """Metric series as parallel arrays.

    A series of more than `max_points` points keeps its first and last one and the least and the
    greatest value of each bucket between them, so that no spike is lost; `total` says how many
    points there are.
    """
    chosen = None if names is None else list(dict.fromkeys(filter(None, names.split(","))))
    with services.sessions() as session:
        return get_metrics(session, run_id, names=chosen, max_points=max_points)


@router.get("/{run_id}/log", response_model=LogChunk, summary="Read the log", responses=_NO_RUN)
def get_run_log(
    services: ServicesDep,
    run_id: RunId,
    offset: Annotated[
        int,
        Query(
            ge=-LARGEST_INTEGER,
            le=LARGEST_INTEGER,
            description="In bytes from the start of the first attempt's log; negative: from the "
            "end.",
        ),
    ] = 0,
    limit: Annotated[
        int, Query(ge=4, le=MOST_BYTES_OF_LOG, description="Most bytes in the answer.")
    ] = 65_536,
) -> LogChunk:
    """A piece of what the trainers of a run printed, all attempts one after the other.

    Go on with `offset=next_offset`. A piece never ends within a character.
    """
    with services.sessions() as session:
        service.find_run_number(session, run_id)
    return read_log(RunDir(services.settings.runs_dir / run_id), offset=offset, limit=limit)


@router.get("/{run_id}/history", response_model=History, summary="Get history", responses=_NO_RUN)
def get_run_history(
    services: ServicesDep,
    run_id: RunId,
    after: Annotated[
        int, Query(ge=0, le=LARGEST_INTEGER, description="Only entries of a greater `id`.")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most entries.")] = 1_000,
) -> History:
    """What happened to a run, oldest first.

    Who changed its state and why, stages, checkpoints, evaluations, warnings, errors.
    """
    with services.sessions() as session:
        return service.get_history(session, run_id, after=after, limit=limit)


@router.get(
    "/{run_id}/events",
    response_class=StreamingResponse,
    response_model=None,
    summary="Follow a run",
    responses=_NO_RUN
    | {
        200: {"description": "Server-sent events until the run has ended."},
        204: {"description": "The run has ended, and everything was told: do not connect again."},
    },
)
async def follow_run(
    services: ServicesDep,
    run_id: RunId,
    last_event_id: Annotated[
        int | None,
        Header(
            ge=0,
            le=LARGEST_INTEGER,
            description="`id` of the last message that was seen; only later ones are sent.",
        ),
    ] = None,
) -> Response:
    """The run's history as server-sent events, and then what happens, live.

    It begins at the run's start, or after `Last-Event-ID`. `event` is the entry's type (state,
    stage, checkpoint, evaluation, warning, error) and `data` the entry as in the history. Messages
    of the type `progress` carry the run's progress and no `id`. The stream ends after a final state
    was told. Comments keep a silent connection open.
    """
    return await open_stream(services.streams, services.sessions, run_id, last_event_id or 0)


@router.get(
    "/{run_id}/checkpoints",
    response_model=CheckpointList,
    summary="List checkpoints",
    responses=_NO_RUN,
)
def list_run_checkpoints(services: ServicesDep, run_id: RunId) -> CheckpointList:
    """A run's checkpoints, newest first; of those of the kind `latest` there is one at most."""
    with services.sessions() as session:
        return service.list_checkpoints(session, run_id)


@router.get(
    "/{run_id}/components",
    response_model=Spectrum,
    summary="Get the spectrum",
    responses=problems(not_found="There is no such run, or it has no basis (yet)."),
)
def get_run_spectrum(services: ServicesDep, run_id: RunId) -> Spectrum:
    """How the variance of the train set spreads over the components of the run's basis."""
    with services.sessions() as session:
        row = service.find_run(session, run_id)
    return get_spectrum(row, services.settings.bases_dir)


@router.get(
    "/{run_id}/components/{index}.png",
    response_class=Response,
    summary="Draw a component",
    responses=binary("image/png", "The component on a diverging scale, one pixel for each.")
    | problems(not_found="There is no such run, basis or component."),
)
def get_run_component(services: ServicesDep, run_id: RunId, index: int) -> Response:
    """One component of the run's basis as an image; 0 is the one of the greatest variance."""
    with services.sessions() as session:
        row = service.find_run(session, run_id)
    png = get_component_png(row, services.settings.bases_dir, index)
    return Response(png, media_type="image/png", headers={"Cache-Control": "max-age=86400"})
