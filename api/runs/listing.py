"""A page of runs in any order, and the cursor that the next page begins at.

A page goes on after the last run of the page before by that run's own value and number, not by a
count of rows: runs that are added or removed meanwhile make no gap and no double. Runs without the
value come last in either direction; of equal ones the newest comes first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import Session, load_only

from api.db.tables import RunRow
from api.http.pagination import not_a_cursor, read_cursor, write_cursor
from api.http.parameters import LARGEST_INTEGER
from api.runs.filters import RunFilters, conditions, metric_value
from api.runs.views import SUMMARY_COLUMNS, run_summary
from pmae.schema import RunPage

_MOST_PRIORITY = 2**31 - 1
"""That its column holds."""
_Value = str | float | None


def _is_text(value: object) -> bool:
    # Neither U+0000 nor lone surrogates, which JSON can carry, are taken by a database.
    return isinstance(value, str) and re.search("[\x00\ud800-\udfff]", value) is None


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER


def _is_priority(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST_PRIORITY


@dataclass(frozen=True)
class _Sort:
    """What the runs are ordered by before their number.

    Attributes:
        value: in SQL; None: by number alone.
        nullable: whether there are runs without the value.
        fits: whether a cursor's value can be one.
    """

    value: ColumnElement[Any] | None
    nullable: bool
    fits: Callable[[object], bool]


def _sort_of(name: str) -> _Sort:
    match name:
        case "created":
            return _Sort(None, nullable=False, fits=lambda value: value is None)
        case "name":
            return _Sort(RunRow.name.expression, nullable=False, fits=_is_text)
        case "priority":
            return _Sort(RunRow.priority.expression, nullable=False, fits=_is_priority)
        case "finished":
            return _Sort(RunRow.finished_at.expression, nullable=True, fits=_is_number)
        case _:
            value = metric_value(name.removeprefix("metric:"))
            return _Sort(value, nullable=True, fits=_is_number)


def list_runs(session: Session, filters: RunFilters) -> RunPage:
    """A page of runs.

    Raises:
        InvalidRequestError: the cursor is not one of this list's.
    """
    sort = _sort_of(filters.sort)
    query = _ordered(select(RunRow), sort, descending=filters.order == "desc")
    query = query.where(*conditions(filters, session.get_bind().dialect.name))
    if filters.cursor is not None:
        value, number = _read_cursor(filters, sort)
        query = query.where(_after(sort, value, number, descending=filters.order == "desc"))
    with_value = query.add_columns(sort.value if sort.value is not None else RunRow.number)
    rows = session.execute(
        with_value.options(load_only(*SUMMARY_COLUMNS, raiseload=True)).limit(filters.limit + 1)
    ).all()
    page = rows[: filters.limit]
    cursor = None
    if len(rows) > filters.limit:
        last, value = page[-1]
        of_sort = value if sort.value is not None else None
        cursor = write_cursor(filters.digest, of_sort, last.number)
    return RunPage(items=[run_summary(row) for row, _ in page], next_cursor=cursor)


def _ordered(query: Select[RunRow], sort: _Sort, *, descending: bool) -> Select[RunRow]:
    if sort.value is None:
        return query.order_by(RunRow.number.desc() if descending else RunRow.number)
    if sort.nullable:
        query = query.order_by(sort.value.is_(None))
    return query.order_by(
        sort.value.desc() if descending else sort.value.asc(), RunRow.number.desc()
    )


def _after(sort: _Sort, value: _Value, number: int, *, descending: bool) -> ColumnElement[bool]:
    """What holds for the runs that come after the one of this value and number."""
    if sort.value is None:
        return RunRow.number < number if descending else RunRow.number > number
    if value is None:
        return and_(sort.value.is_(None), RunRow.number < number)
    beyond = sort.value < value if descending else sort.value > value
    later = or_(beyond, and_(sort.value == value, RunRow.number < number))
    return or_(later, sort.value.is_(None)) if sort.nullable else later


def _read_cursor(filters: RunFilters, sort: _Sort) -> tuple[_Value, int]:
    cursor = filters.cursor or ""
    value, number = read_cursor(cursor, filters.digest)
    if not (sort.fits(value) or (value is None and sort.nullable)):
        raise not_a_cursor(cursor)
    return value, number
