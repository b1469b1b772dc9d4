"""``/runs/{run_id}/...``: metrics, log, history, checkpoints, filmstrip and components of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Response

from api.auth.requirements import VIEWER
from api.basis.components import get_component_png, get_spectrum
from api.checkpoints.listing import CheckpointParameters, list_checkpoints
from api.http.parameters import LARGEST_INTEGER, RunId, refuse_unknown_parameters
from api.http.responses import binary, problems
from api.metrics.as_csv import wants_csv
from api.metrics.parameters import (
    METRICS_AS_CSV,
    BucketAxis,
    MaxPoints,
    MetricNames,
    MetricsForm,
    read_metrics,
)
from api.reconstructions.filmstrip import get_filmstrip, get_filmstrip_png
from api.runs import service
from api.runs.log import read_log
from api.services import ServicesDep
from pmae.runs.layout import RunDir
from pmae.schema import (
    HISTORY_PAGE,
    CheckpointPage,
    Filmstrip,
    History,
    LogChunk,
    Metrics,
    Spectrum,
)

MAX_LOG_BYTES = 1_048_576

router = APIRouter(prefix="/runs", tags=["runs"], dependencies=[Depends(refuse_unknown_parameters)])

_NO_RUN = problems(not_found="There is no such run.")


@router.get(
    "/{run_id}/metrics",
    response_model=Metrics,
    summary="Get metric series",
    responses=_NO_RUN | METRICS_AS_CSV,
    dependencies=[VIEWER],
)
def get_run_metrics(
    services: ServicesDep,
    run_id: RunId,
    names: MetricNames = None,
    max_points: MaxPoints = None,
    axis: BucketAxis = "step",
    form: MetricsForm = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Metrics | Response:
    """Return metric series as parallel arrays, or as CSV with one point a line.

    A series of more than `max_points` points is downsampled to its first and last point and the
    minimum and maximum of each bucket between, so that no spike is lost; `total` is the number of
    points before that. CSV holds every point unless `max_points` is given.
    """
    with services.sessions() as session:
        runs = {service.find_run_number(session, run_id): run_id}
    found = read_metrics(
        services.sessions,
        runs,
        names=names,
        max_points=max_points,
        axis=axis,
        as_csv=wants_csv(form, accept),
    )
    return found if isinstance(found, Response) else found[0]


@router.get(
    "/{run_id}/log",
    response_model=LogChunk,
    summary="Read the log",
    responses=_NO_RUN,
    dependencies=[VIEWER],
)
def get_run_log(
    services: ServicesDep,
    run_id: RunId,
    offset: Annotated[
        int,
        Query(
            ge=-LARGEST_INTEGER,
            le=LARGEST_INTEGER,
            description="In bytes from the start of the first attempt's log; negative: from the "
            "end of the last.",
        ),
    ] = 0,
    limit: Annotated[
        int, Query(ge=4, le=MAX_LOG_BYTES, description="Maximum length of the response, in bytes.")
    ] = 65_536,
) -> LogChunk:
    """Return a part of a run's log: the output of its trainers, all attempts concatenated.

    Continue with `offset=next_offset`. A part never ends within a character.
    """
    with services.sessions() as session:
        service.find_run_number(session, run_id)
    return read_log(RunDir(services.settings.runs_dir / run_id), offset=offset, limit=limit)


@router.get(
    "/{run_id}/history",
    response_model=History,
    summary="Get history",
    responses=_NO_RUN,
    dependencies=[VIEWER],
)
def get_run_history(
    services: ServicesDep,
    run_id: RunId,
    after: Annotated[
        int, Query(ge=0, le=LARGEST_INTEGER, description="Only entries with a greater `id`.")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Maximum length.")] = HISTORY_PAGE,
) -> History:
    """List the history of a run, oldest first.

    State changes with actor and reason, stages, checkpoints, evaluations, warnings and errors.
    """
    with services.sessions() as session:
        return service.get_history(session, run_id, after=after, limit=limit)


@router.get(
    "/{run_id}/checkpoints",
    response_model=CheckpointPage,
    summary="List checkpoints",
    responses=problems(
        not_found="There is no such run.",
        unprocessable_entity="A parameter is invalid, or the cursor belongs to another list.",
    ),
    dependencies=[VIEWER],
)
def list_run_checkpoints(
    services: ServicesDep, run_id: RunId, parameters: Annotated[CheckpointParameters, Query()]
) -> CheckpointPage:
    """List a run's checkpoints in pages, newest first.

    No checkpoint is skipped or repeated between pages while others are added or removed.
    """
    with services.sessions() as session:
        return list_checkpoints(session, run_id, parameters)


@router.get(
    "/{run_id}/filmstrip",
    response_model=Filmstrip,
    summary="See a run learn",
    responses=binary("image/png", "With `format=png`: the frames in one labelled sheet.")
    | problems(not_found="There is no such run or image, or it was not filmed (yet)."),
    dependencies=[VIEWER],
)
def get_run_filmstrip(
    services: ServicesDep,
    run_id: RunId,
    image: Annotated[int, Query(ge=0, le=LARGEST_INTEGER, description="Index of the image.")] = 0,
    max_frames: Annotated[int, Query(ge=2, le=101, description="Maximum number of frames.")] = 101,
    form: Annotated[
        Literal["json", "png"],
        Query(alias="format", description="A PNG for each frame, or one sheet."),
    ] = "json",
) -> Filmstrip | Response:
    """Return reconstructions of one validation image under one mask, in the order of training.

    Frames are recorded while the run trains: before its first step and after up to 100 log-spaced
    epochs. No checkpoint needs to have been kept.
    """
    with services.sessions() as session:
        row = service.find_run(session, run_id)
    run = RunDir(services.settings.runs_dir / run_id)
    if form == "png":
        png = get_filmstrip_png(row, run, image=image, max_frames=max_frames)
        return Response(png, media_type="image/png")
    return get_filmstrip(row, run, image=image, max_frames=max_frames)


@router.get(
    "/{run_id}/components",
    response_model=Spectrum,
    summary="Get the spectrum",
    responses=problems(not_found="There is no such run, or it has no basis (yet)."),
    dependencies=[VIEWER],
)
def get_run_spectrum(services: ServicesDep, run_id: RunId) -> Spectrum:
    """Return the variance of the train set along each component of the run's basis."""
    with services.sessions() as session:
        row = service.find_run(session, run_id)
    return get_spectrum(row, services.settings.bases_dir)


@router.get(
    "/{run_id}/components/{index}.png",
    response_class=Response,
    summary="Draw a component",
    responses=binary("image/png", "The component on a diverging scale, one pixel a value.")
    | problems(not_found="There is no such run, basis or component."),
    dependencies=[VIEWER],
)
def get_run_component(services: ServicesDep, run_id: RunId, index: int) -> Response:
    """Return one component of the run's basis as an image; 0 has the greatest variance."""
    with services.sessions() as session:
        row = service.find_run(session, run_id)
    png = get_component_png(row, services.settings.bases_dir, index)
    return Response(png, media_type="image/png", headers={"Cache-Control": "max-age=86400"})
