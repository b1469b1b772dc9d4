"""Metric series, of one run or of several.

Several runs take as many statements as one: one tells how long the series are, one brings the short
ones whole, and :mod:`api.runs.thinning` one or two for the long ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from api.db.tables import MetricBlockRow, MetricRow
from api.runs.thinning import MOST_SERIES, POINT, Axis, Extent, Point, Points, SeriesKey, thinned
from pmae.schema import Metrics, MetricSeries


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
    """
    extents = _extents(session, list(runs), names)
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
