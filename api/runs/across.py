"""``/metrics``: the series of several runs at once.

Not below ``/runs``, where ``metrics`` would be read as the id of a run.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from api.auth.requirements import VIEWER
from api.http.errors import InvalidRequestError
from api.http.parameters import refuse_unknown_parameters
from api.http.responses import problems
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
from pmae.schema.runs import MetricsOfRuns
from pmae.spec.messages import with_message

MAX_RUNS = 50

router = APIRouter(tags=["runs"], dependencies=[Depends(refuse_unknown_parameters)])

RunIds = Annotated[
    str,
    Query(
        pattern=with_message(
            r"^[0-9a-f]{8,32}(,[0-9a-f]{8,32})*$",
            "expected ids of runs, 8 to 32 hexadecimal digits each, separated by commas",
        ),
        description=f"Ids of up to {MAX_RUNS} runs, separated by commas.",
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
    """Return the series of each run, as `/runs/{run_id}/metrics` does, in one response.

    Takes as many queries as a single run. In CSV the first column is the run's id.
    """
    ids = list(dict.fromkeys(runs.split(",")))
    if len(ids) > MAX_RUNS:
        message = f"{len(ids)} runs were given; expected at most {MAX_RUNS}"
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
