"""Downsampling of long series in SQL: the extremes of equally wide buckets.

A bucket is a range of steps, which the primary key (run, name, step) leads to: nothing is sorted
but what a bucket holds. Where buckets are wide, blocks (:mod:`api.db.metric_blocks`) are looked at
in place of the points.
"""

from __future__ import annotations

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
    union,
    values,
)
from sqlalchemy.orm import aliased

from api.db.metric_blocks import BLOCK_STEPS
from api.db.tables import MetricBlockRow, MetricRow

Axis = Literal["step", "epoch", "time"]
MOST_SERIES = 1_000
"""Named in one statement: SQLite takes 32,766 parameters."""
BLOCKS_OF_BUCKET = 4
"""Buckets of at least this many blocks are made of whole blocks: ends are off by one at most."""
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
Points = Select[int, str, int, float, float, float]
SeriesKey = tuple[int, str]
"""A run's number and a metric's name."""


@dataclass(frozen=True)
class Extent:
    """Number of points of a series, and its first and last step and time."""

    total: int
    first_step: int
    last_step: int
    first_time: float
    last_time: float

    def has_blocks_for(self, num_buckets: int) -> bool:
        """Return True if the buckets are wide enough to be made of blocks."""
        num_blocks = self.last_step // BLOCK_STEPS - self.first_step // BLOCK_STEPS + 1
        return num_blocks >= BLOCKS_OF_BUCKET * num_buckets


@dataclass(frozen=True)
class _Source:
    """Table that buckets are made of: points, or blocks.

    Attributes:
        place: column by which they are in order.
        steps: how many steps each place has.
        time: column with the time.
        least: columns of the minimum in the place and of its step.
        greatest: the same of the maximum.
    """

    table: type[MetricRow | MetricBlockRow]
    place: str
    steps: int
    time: str
    least: tuple[str, str]
    greatest: tuple[str, str]


_POINTS = _Source(MetricRow, "step", 1, "time", ("value", "step"), ("value", "step"))
_BLOCKS = _Source(
    MetricBlockRow,
    "block",
    BLOCK_STEPS,
    "first_time",
    ("least", "least_step"),
    ("greatest", "greatest_step"),
)


def thinned(
    extents: Mapping[SeriesKey, Extent], num_buckets: int, axis: Axis, *, postgres: bool
) -> list[Points]:
    """Make queries of the points kept of each series: both ends, and each bucket's extremes.

    Args:
        extents: of the series.
        num_buckets: at least 1; at most ``2 * num_buckets + 2`` points of a series are kept.
        axis: along which the buckets are equally wide. Epochs are steps in another unit.
        postgres: the dialect.
    """
    by_source: dict[_Source, dict[SeriesKey, Extent]] = {_POINTS: {}, _BLOCKS: {}}
    for key, extent in extents.items():
        by_source[_BLOCKS if extent.has_blocks_for(num_buckets) else _POINTS][key] = extent
    return [
        query
        for source, some in by_source.items()
        for query in _of_source(source, some, num_buckets, axis, postgres=postgres)
    ]


def _of_source(
    source: _Source,
    extents: Mapping[SeriesKey, Extent],
    num_buckets: int,
    axis: Axis,
    *,
    postgres: bool,
) -> list[Points]:
    rows = [
        (*key, e.first_step, e.last_step, e.first_time, e.last_time) for key, e in extents.items()
    ]
    queries: list[Points] = []
    for start in range(0, len(rows), MOST_SERIES):
        long = _long_series(rows[start : start + MOST_SERIES])
        if axis == "time":
            buckets = _buckets_of_time(source, long, num_buckets, postgres=postgres)
        else:
            buckets = _buckets_of_steps(source, long, num_buckets)
        chosen = _chosen(source, long, buckets)
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


def _buckets_of_steps(source: _Source, long: CTE, num_buckets: int) -> CTE:
    """Each bucket as the places from ``low`` to before ``high``."""
    index = select(literal(0).label("i")).cte("bucket_numbers", recursive=True)
    index = index.union_all(select(index.c.i + 1).where(index.c.i < num_buckets - 1))
    first = long.c.first_step // literal(source.steps)
    width = long.c.last_step // literal(source.steps) - first + 1

    def begin(i: ColumnElement[int]) -> ColumnElement[int]:
        return first + (i * width + num_buckets - 1) // literal(num_buckets)

    low, high = begin(index.c.i).label("low"), begin(index.c.i + 1).label("high")
    return (
        select(long.c.run_number, long.c.name, low, high)
        .select_from(long.join(index, literal(True)))
        .cte("buckets")
    )


def _buckets_of_time(source: _Source, long: CTE, num_buckets: int, *, postgres: bool) -> CTE:
    """Make buckets of equal duration, each as a range of places: time grows with the steps."""
    table = source.table
    seconds = long.c.last_time - long.c.first_time
    passed = getattr(table, source.time) - long.c.first_time
    number = passed / case((seconds > 0, seconds), else_=1.0) * num_buckets
    # PostgreSQL rounds where SQLite cuts off.
    bucket = cast(func.trunc(number) if postgres else number, BigInteger)
    place = getattr(table, source.place)
    low, high = func.min(place).label("low"), (func.max(place) + 1).label("high")
    return (
        select(long.c.run_number, long.c.name, low, high)
        .join(table, _of_series(table, long))
        .group_by(
            long.c.run_number,
            long.c.name,
            case((bucket < num_buckets, bucket), else_=num_buckets - 1),
        )
        .cte("buckets")
    )


def _chosen(source: _Source, long: CTE, buckets: CTE) -> CTE:
    """The steps to keep: each bucket's extremes, and both ends."""
    inside = aliased(source.table)
    place = getattr(inside, source.place)

    def extreme(columns: tuple[str, str], *, descending: bool) -> Select[Any]:
        value, of_step = (getattr(inside, name) for name in columns)
        step = (
            select(of_step)
            .where(_of_series(inside, buckets), place >= buckets.c.low, place < buckets.c.high)
            .order_by(value.desc() if descending else value.asc(), of_step)
            .limit(1)
            .scalar_subquery()
        )
        return select(buckets.c.run_number, buckets.c.name, step.label("step"))

    return union(
        extreme(source.least, descending=False),
        extreme(source.greatest, descending=True),
        select(long.c.run_number, long.c.name, long.c.first_step),
        select(long.c.run_number, long.c.name, long.c.last_step),
    ).cte("chosen")


def _of_series(points: Any, series: CTE) -> ColumnElement[bool]:
    return and_(points.run_number == series.c.run_number, points.name == series.c.name)
