"""Metric series, thinned out in SQL so that a long run costs no more to draw than a short one.

Several runs take as many statements as one: one tells how long the series are, one brings the short
ones whole, and one the extremes of the long ones' buckets. A bucket is a range of steps, which the
primary key (run, name, step) leads to: each point is looked at twice, and nothing is sorted but
what a bucket holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Double,
    Row,
    Select,
    String,
    and_,
    case,
    cast,
    column,
    func,
    literal,
    select,
    tuple_,
    union,
    values,
)
from sqlalchemy.orm import Session, aliased

from api.db.tables import MetricRow
from pmae.schema import Metrics, MetricSeries

Axis = Literal["step", "epoch", "time"]
MOST_SERIES = 1_000
"""Named in one statement: SQLite takes 32,766 parameters."""
Point = Row[int, str, int, float, float, float]
"""Run number, name, step, epoch, time, value."""
POINT = (
    MetricRow.run_number,
    MetricRow.name,
    MetricRow.step,
    MetricRow.epoch,
    MetricRow.time,
    MetricRow.value,
)
_Points = Select[int, str, int, float, float, float]
_Key = tuple[int, str]


@dataclass(frozen=True)
class _Extent:
    """How long a series is, and where it begins and ends."""

    total: int
    first_step: int
    last_step: int
    first_time: float
    last_time: float


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
    value (of equal ones the earliest) of each of equally wide buckets: no spike is lost.

    Args:
        session: only read.
        runs: their ids by their numbers, in the order of the answer.
        names: which metrics, in this order; default: all, by name. Unknown ones give no series.
        max_points: 4 or more.
        axis: along which the buckets are equally wide. Epochs are steps in another unit.
    """
    extents = _extents(session, list(runs), names)
    points: dict[_Key, list[Point]] = defaultdict(list)
    short = [key for key, extent in extents.items() if extent.total <= max_points]
    long = {key: extent for key, extent in extents.items() if extent.total > max_points}
    postgres = session.get_bind().dialect.name == "postgresql"
    for query in (*_whole(short), *_thinned(long, (max_points - 2) // 2, axis, postgres=postgres)):
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
) -> dict[_Key, _Extent]:
    query = select(
        MetricRow.run_number,
        MetricRow.name,
        func.count(),
        func.min(MetricRow.step),
        func.max(MetricRow.step),
        func.min(MetricRow.time),
        func.max(MetricRow.time),
    ).where(MetricRow.run_number.in_(numbers))
    if names is not None:
        query = query.where(MetricRow.name.in_(names))
    rows = session.execute(query.group_by(MetricRow.run_number, MetricRow.name))
    return {(row[0], row[1]): _Extent(row[2], row[3], row[4], row[5], row[6]) for row in rows}


def _whole(keys: Sequence[_Key]) -> list[_Points]:
    by_key = tuple_(MetricRow.run_number, MetricRow.name)
    return [
        select(*POINT)
        .where(by_key.in_(keys[start : start + MOST_SERIES]))
        .order_by(*by_key, MetricRow.step)
        for start in range(0, len(keys), MOST_SERIES)
    ]


def _thinned(
    extents: Mapping[_Key, _Extent], num_buckets: int, axis: Axis, *, postgres: bool
) -> list[_Points]:
    rows = [
        (*key, e.first_step, e.last_step, e.first_time, e.last_time) for key, e in extents.items()
    ]
    queries: list[_Points] = []
    for start in range(0, len(rows), MOST_SERIES):
        long = _long_series(rows[start : start + MOST_SERIES])
        if axis == "time":
            buckets = _buckets_of_time(long, num_buckets, postgres=postgres)
        else:
            buckets = _buckets_of_steps(long, num_buckets)
        chosen = _chosen(long, buckets)
        queries.append(
            select(*POINT)
            .join(
                chosen,
                and_(
                    MetricRow.run_number == chosen.c.run_number,
                    MetricRow.name == chosen.c.name,
                    MetricRow.step == chosen.c.step,
                ),
            )
            .order_by(MetricRow.run_number, MetricRow.name, MetricRow.step)
        )
    return queries


def _long_series(rows: Sequence[tuple[Any, ...]]) -> CTE:
    return (
        values(
            column("run_number", BigInteger),
            column("name", String),
            column("first_step", BigInteger),
            column("last_step", BigInteger),
            column("first_time", Double),
            column("last_time", Double),
        )
        .data(rows)
        .cte("long_series")
    )


def _buckets_of_steps(long: CTE, num_buckets: int) -> CTE:
    """Each bucket as the steps from ``low`` to before ``high``."""
    index = select(literal(0).label("i")).cte("bucket_numbers", recursive=True)
    index = index.union_all(select(index.c.i + 1).where(index.c.i < num_buckets - 1))
    width = long.c.last_step - long.c.first_step + 1

    def begin(i: ColumnElement[int]) -> ColumnElement[int]:
        return long.c.first_step + (i * width + num_buckets - 1) // literal(num_buckets)

    low, high = begin(index.c.i).label("low"), begin(index.c.i + 1).label("high")
    return (
        select(long.c.run_number, long.c.name, low, high)
        .select_from(long.join(index, literal(True)))
        .cte("buckets")
    )


def _buckets_of_time(long: CTE, num_buckets: int, *, postgres: bool) -> CTE:
    """The same of equally long spans of time: time grows with the steps."""
    seconds = long.c.last_time - long.c.first_time
    share = (MetricRow.time - long.c.first_time) / case((seconds > 0, seconds), else_=1.0)
    place = share * num_buckets
    # PostgreSQL rounds where SQLite cuts off.
    bucket = cast(func.trunc(place) if postgres else place, BigInteger)
    low, high = func.min(MetricRow.step).label("low"), (func.max(MetricRow.step) + 1).label("high")
    return (
        select(long.c.run_number, long.c.name, low, high)
        .join(MetricRow, _of_series(MetricRow, long))
        .group_by(
            long.c.run_number,
            long.c.name,
            case((bucket < num_buckets, bucket), else_=num_buckets - 1),
        )
        .cte("buckets")
    )


def _chosen(long: CTE, buckets: CTE) -> CTE:
    """The steps to keep: each bucket's extremes, and both ends."""
    inside = aliased(MetricRow)

    def extreme(order: ColumnElement[float]) -> Select[Any]:
        step = (
            select(inside.step)
            .where(
                _of_series(inside, buckets),
                inside.step >= buckets.c.low,
                inside.step < buckets.c.high,
            )
            .order_by(order, inside.step)
            .limit(1)
            .scalar_subquery()
        )
        return select(buckets.c.run_number, buckets.c.name, step.label("step"))

    return union(
        extreme(inside.value.asc()),
        extreme(inside.value.desc()),
        select(long.c.run_number, long.c.name, long.c.first_step),
        select(long.c.run_number, long.c.name, long.c.last_step),
    ).cte("chosen")


def _of_series(points: Any, series: CTE) -> ColumnElement[bool]:
    return and_(points.run_number == series.c.run_number, points.name == series.c.name)


def _series(name: str, points: Sequence[Point], total: int) -> MetricSeries:
    return MetricSeries(
        name=name,
        step=[point.step for point in points],
        epoch=[point.epoch for point in points],
        time=[point.time for point in points],
        value=[point.value for point in points],
        total=total,
    )
