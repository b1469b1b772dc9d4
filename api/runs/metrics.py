"""Metric series, thinned out in SQL so that a long run costs no more to draw than a short one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Row, Select, func, literal, or_, select
from sqlalchemy.orm import Session

from api.db.tables import MetricRow
from api.runs.service import find_run_number
from pmae.schema import Metrics, MetricSeries

Point = Row[str, int, float, float, float]
"""Name, step, epoch, time, value."""
_POINT = (MetricRow.name, MetricRow.step, MetricRow.epoch, MetricRow.time, MetricRow.value)


def get_metrics(
    session: Session, run_id: str, *, names: Sequence[str] | None, max_points: int
) -> Metrics:
    """The series of a run's metrics, each of at most ``max_points`` points.

    A longer series keeps its first and its last point, and between them the least and the greatest
    value of each of equally wide buckets of steps: no spike is lost.

    Args:
        session: only read.
        run_id: of the run.
        names: which metrics, in this order; default: all, by name. Unknown ones give no series.
        max_points: 4 or more.

    Raises:
        NotFoundError: there is no such run.
    """
    number = find_run_number(session, run_id)
    extents = _extents(session, number, names)
    short = [name for name, (total, _, _) in extents.items() if total <= max_points]
    points: dict[str, list[Point]] = {name: [] for name in extents}
    if short:
        query = select(*_POINT).where(MetricRow.run_number == number, MetricRow.name.in_(short))
        for point in session.execute(query.order_by(MetricRow.name, MetricRow.step)):
            points[point.name].append(point)
    for name, (total, first, last) in extents.items():
        if total > max_points:
            query = _thinned(number, name, first, last, buckets=(max_points - 2) // 2)
            points[name] = list(session.execute(query))
    order = names if names is not None else sorted(extents)
    series = [
        _series(name, points[name], total=extents[name][0]) for name in order if name in extents
    ]
    return Metrics(run_id=run_id, series=series)


def _extents(
    session: Session, number: int, names: Sequence[str] | None
) -> dict[str, tuple[int, int, int]]:
    """By name: how many points there are, the first step, the last step."""
    query = select(
        MetricRow.name, func.count(), func.min(MetricRow.step), func.max(MetricRow.step)
    ).where(MetricRow.run_number == number)
    if names is not None:
        query = query.where(MetricRow.name.in_(names))
    rows = session.execute(query.group_by(MetricRow.name))
    return {name: (total, first, last) for name, total, first, last in rows}


def _thinned(
    number: int, name: str, first: int, last: int, buckets: int
) -> Select[str, int, float, float, float]:
    """First and last point, and each bucket's extremes (of equal ones the earliest)."""
    one_series = (MetricRow.run_number == number, MetricRow.name == name)
    bucket = ((MetricRow.step - first) * literal(buckets)) // literal(last - first + 1)
    inner = (
        select(MetricRow.step, MetricRow.value, bucket.label("bucket"))
        .where(*one_series)
        .cte("inner_points")
    )
    extremes = (
        select(
            inner.c.bucket,
            func.min(inner.c.value).label("least"),
            func.max(inner.c.value).label("greatest"),
        )
        .group_by(inner.c.bucket)
        .cte("extremes")
    )
    steps = (
        select(func.min(inner.c.step))
        .join(extremes, inner.c.bucket == extremes.c.bucket)
        .where(or_(inner.c.value == extremes.c.least, inner.c.value == extremes.c.greatest))
        .group_by(inner.c.bucket, inner.c.value)
    )
    chosen = or_(MetricRow.step.in_(steps), MetricRow.step.in_((first, last)))
    return select(*_POINT).where(*one_series, chosen).order_by(MetricRow.step)


def _series(name: str, points: Sequence[Point], total: int) -> MetricSeries:
    return MetricSeries(
        name=name,
        step=[point.step for point in points],
        epoch=[point.epoch for point in points],
        time=[point.time for point in points],
        value=[point.value for point in points],
        total=total,
    )
