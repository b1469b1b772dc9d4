"""Metric series, of one run or of several.

Several runs take as many statements as one: one tells how long the series are, one brings the short
ones whole, and :mod:`api.metrics.downsampling` one or two for the long ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from api.db.tables import MetricBlockRow, MetricRow
from api.http.errors import InvalidRequestError
from api.metrics.downsampling import (
    MOST_SERIES,
    POINT,
    Axis,
    Extent,
    Point,
    Points,
    SeriesKey,
    thinned,
)
from pmae.schema import Metrics, MetricSeries, ProblemField

LEAST_MAX_POINTS = 4
MOST_POINTS = 1_000_000
"""Of all series of one answer, which is made in memory: about 300 bytes for each."""


def get_metrics(
    session: Session,
    runs: Mapping[int, str],
    *,
    names: Sequence[str] | None,
    max_points: int,
    axis: Axis = "step",
) -> list[Metrics]:
    """The series of the metrics of runs, each of at most ``max_points`` points.

    A longer series keeps its first and its last point, and between them the least and the greatest
    value (of equal ones the earliest) of each of equally wide buckets: no spike is lost. Wide
    buckets end where a block does.

    Args:
        session: only read.
        runs: their ids by their numbers, in the order of the answer.
        names: which metrics, in this order; default: all, by name. Unknown ones give no series.
        max_points: 4 or more.
        axis: along which the buckets are equally wide. Epochs are steps in another unit.

    Raises:
        InvalidRequestError: the answer would have more than :data:`MOST_POINTS` points.
    """
    extents = _extents(session, list(runs), names)
    _refuse_too_many(extents.values(), max_points)
    points: dict[SeriesKey, list[Point]] = defaultdict(list)
    short = [key for key, extent in extents.items() if extent.total <= max_points]
    long = {key: extent for key, extent in extents.items() if extent.total > max_points}
    postgres = session.get_bind().dialect.name == "postgresql"
    for query in (*_whole(short), *thinned(long, (max_points - 2) // 2, axis, postgres=postgres)):
        for point in session.execute(query):
            points[point.run_number, point.name].append(point)
    return [
        Metrics(
            run_id=run_id,
            series=[
                _series(name, points[number, name], extents[number, name].total)
                for name in (names or sorted(n for run, n in extents if run == number))
                if (number, name) in extents
            ],
        )
        for number, run_id in runs.items()
    ]


def _refuse_too_many(extents: Collection[Extent], max_points: int) -> None:
    """The whole answer is held in memory."""
    points = sum(min(extent.total, max_points) for extent in extents)
    if points <= MOST_POINTS:
        return
    most = MOST_POINTS // len(extents)
    fewer = "fewer runs or names"
    if most >= LEAST_MAX_POINTS:
        fewer = f"up to {most:,}, or {fewer}"
    message = (
        f"these are {points:,} points of {len(extents):,} series, and an answer has up to "
        f"{MOST_POINTS:,}; valid are {fewer}; as CSV without max_points all points come"
    )
    field = ProblemField(pointer="max_points", message=message)
    raise InvalidRequestError(message, fields=[field])


def _extents(
    session: Session, numbers: Sequence[int], names: Sequence[str] | None
) -> dict[SeriesKey, Extent]:
    block = MetricBlockRow
    query = select(
        block.run_number,
        block.name,
        func.sum(block.total),
        func.min(block.first_step),
        func.max(block.last_step),
        func.min(block.first_time),
        func.max(block.last_time),
    ).where(block.run_number.in_(numbers))
    if names is not None:
        query = query.where(block.name.in_(names))
    rows = session.execute(query.group_by(block.run_number, block.name))
    return {(row[0], row[1]): Extent(int(row[2]), row[3], row[4], row[5], row[6]) for row in rows}


def _whole(keys: Sequence[SeriesKey]) -> list[Points]:
    by_key = tuple_(MetricRow.run_number, MetricRow.name)
    return [
        select(*POINT)
        .where(by_key.in_(keys[start : start + MOST_SERIES]))
        .order_by(*by_key, MetricRow.step)
        for start in range(0, len(keys), MOST_SERIES)
    ]


def _series(name: str, points: Sequence[Point], total: int) -> MetricSeries:
    return MetricSeries(
        name=name,
        step=[point.step for point in points],
        epoch=[point.epoch for point in points],
        time=[point.time for point in points],
        value=[point.value for point in points],
        total=total,
    )
