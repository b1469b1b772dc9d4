"""The parameters that metric series are asked for by, of one run or of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import Query, Response
from sqlalchemy.orm import Session, sessionmaker

from api.http.responses import Responses
from api.metrics.as_csv import MEDIA_TYPE, stream_metrics, stream_points
from api.metrics.downsampling import Axis
from api.metrics.series import LEAST_MAX_POINTS, MOST_POINTS, get_metrics
from pmae.schema import Metrics
from pmae.spec.messages import NO_NUL

_DEFAULT_POINTS = 400

MetricNames = Annotated[
    str | None,
    Query(
        description="Which metrics, with commas between; default: all.",
        examples=["loss,val_loss"],
        max_length=4_000,
        pattern=NO_NUL,
    ),
]
MaxPoints = Annotated[
    int | None,
    Query(
        ge=LEAST_MAX_POINTS,
        le=100_000,
        description=f"Most points of each series; default: {_DEFAULT_POINTS}, of CSV all. "
        f"Of all series together an answer has up to {MOST_POINTS:,}; "
        "CSV without this has no such bound.",
    ),
]
BucketAxis = Annotated[
    Axis,
    Query(
        description="Along which the buckets of a thinned series are equally wide. Steps and "
        "epochs give the same ones."
    ),
]
MetricsForm = Annotated[
    Literal["json", "csv"] | None,
    Query(alias="format", description="Default: csv with `Accept: text/csv`, else json."),
]
METRICS_AS_CSV: Responses = {
    200: {
        "content": {
            MEDIA_TYPE: {
                "schema": {"type": "string"},
                "example": "run,name,step,epoch,time,value\n"
                "3f9c0a1b2c4d,loss,10,0.9,1767225600.5,0.731\n",
            }
        }
    }
}


def read_metrics(
    sessions: sessionmaker[Session],
    runs: Mapping[int, str],
    *,
    names: str | None,
    max_points: int | None,
    axis: Axis,
    as_csv: bool,
) -> list[Metrics] | Response:
    """The series of each run, or a response that streams them as CSV.

    Args:
        sessions: of the run database.
        runs: their ids by their numbers.
        names: with commas between.
        max_points: of each series; None: the default of the form.
        axis: of the buckets.
        as_csv: a response, which holds every point unless ``max_points`` is given.
    """
    chosen = None if names is None else list(dict.fromkeys(filter(None, names.split(","))))
    if as_csv and max_points is None:
        return stream_points(sessions, runs, chosen)
    with sessions() as session:
        found = get_metrics(
            session, runs, names=chosen, max_points=max_points or _DEFAULT_POINTS, axis=axis
        )
    return stream_metrics(found) if as_csv else found
