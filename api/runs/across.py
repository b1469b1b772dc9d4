"""``/metrics`` and ``/events``: what is asked of several runs at once, or of all.

They lie beside ``/runs``, not below it, where they would be taken for ids of runs.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from api.auth.principal import PrincipalDep
from api.auth.requirements import VIEWER
from api.events.responses import open_service_stream
from api.http.errors import InvalidRequestError
from api.http.openapi import problems
from api.http.parameters import LARGEST_INTEGER, refuse_unknown_parameters
from api.http.validation import unknown_name
from api.metrics.as_csv import wants_csv
from api.metrics.parameters import (
    METRICS_AS_CSV,
    BucketAxis,
    MaxPoints,
    MetricNames,
    MetricsForm,
    read_metrics,
)
from api.runs.service import find_run_numbers
from api.services import ServicesDep
from pmae.schema import ProblemField
from pmae.schema.runs import EVENT_TYPES, MetricsOfRuns
from pmae.spec.messages import told_as

MOST_RUNS = 50

router = APIRouter(tags=["runs"], dependencies=[Depends(refuse_unknown_parameters)])

RunIds = Annotated[
    str,
    Query(
        pattern=told_as(
            r"^[0-9a-f]{8,32}(,[0-9a-f]{8,32})*$",
            "valid are ids of runs, 8 to 32 hexadecimal digits each, with commas between",
        ),
        description=f"Ids of up to {MOST_RUNS} runs, with commas between.",
        examples=["3f9c0a1b2c4d,0123456789ab"],
    ),
]


@router.get(
    "/metrics",
    response_model=MetricsOfRuns,
    summary="Get metric series of several runs",
    responses=METRICS_AS_CSV | problems(not_found="One of the runs does not exist."),
    dependencies=[VIEWER],
)
def get_metrics_of_runs(
    services: ServicesDep,
    runs: RunIds,
    names: MetricNames = None,
    max_points: MaxPoints = None,
    axis: BucketAxis = "step",
    form: MetricsForm = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> MetricsOfRuns | Response:
    """The series of each run as `/runs/{run_id}/metrics` gives them, in one answer.

    It takes as many looks at the database as one run does. As CSV the first column says which run.
    """
    ids = list(dict.fromkeys(runs.split(",")))
    if len(ids) > MOST_RUNS:
        message = f"these are {len(ids)} runs; valid are up to {MOST_RUNS}"
        field = ProblemField(pointer="runs", message=message)
        raise InvalidRequestError(message, fields=[field])
    with services.sessions() as session:
        numbers = find_run_numbers(session, ids)
    found = read_metrics(
        services.sessions,
        numbers,
        names=names,
        max_points=max_points,
        axis=axis,
        as_csv=wants_csv(form, accept),
    )
    return found if isinstance(found, Response) else MetricsOfRuns(runs=found)


@router.get(
    "/events",
    response_class=StreamingResponse,
    response_model=None,
    summary="Follow all runs",
    responses=problems(unprocessable_entity="There is no such type.")
    | {200: {"description": "Server-sent events until the client or the service goes."}},
    dependencies=[VIEWER],
)
async def follow_service(
    services: ServicesDep,
    principal: PrincipalDep,
    types: Annotated[
        str | None,
        Query(
            description="Only messages of these types, with commas between: "
            f"{', '.join(EVENT_TYPES)}. Default: all.",
            examples=["state,evaluation"],
            max_length=400,
        ),
    ] = None,
    last_event_id: Annotated[
        int | None,
        Header(
            ge=0,
            le=LARGEST_INTEGER,
            description="`id` of the last message that was seen; all later ones are sent. Without "
            "it: what happens from now on.",
        ),
    ] = None,
) -> Response:
    """What happens to any run, as server-sent events.

    `event` is the type of what happened and `data` the entry as in the run's history, with `run_id`
    and `run`, the run as the list shows it now. Of a run that was deleted nothing is told but that
    (`delete`): `run` is null then, and `data.data` has the run's number and name.

    Messages come in the order of their `id`s, and none is left out when a client goes on with
    `Last-Event-ID`. Messages of the type `progress` carry a run alone, and no `id`: they come when
    its stage, its epoch or the per cent of its stage changes, and first of every running run.
    Comments keep a silent connection open. The stream ends soon after the key with which it was
    opened was revoked or has expired.
    """
    chosen = None if types is None else list(filter(None, types.split(",")))
    for name in chosen or ():
        if name not in EVENT_TYPES:
            message = unknown_name("type", name, EVENT_TYPES)
            field = ProblemField(pointer="types", message=message)
            raise InvalidRequestError(message, fields=[field])
    return await open_service_stream(
        services.streams,
        services.sessions,
        principal=principal,
        last_id=last_event_id,
        types=None if chosen is None else frozenset(chosen),
    )
