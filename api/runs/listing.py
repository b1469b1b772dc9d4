"""Keyset pagination of runs in any order.

A cursor holds the sort value and number of the last run of a page, not a count of rows: no run is
skipped or repeated while others are added or removed. Runs without the value come last in either
direction; of runs with equal values the newest comes first.
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
from api.runs.filters import check_method, conditions, list_digest, metric_value
from api.runs.views import SUMMARY_COLUMNS, run_summary
from pmae.schema import RunPage
from pmae.schema.run_query import RunQuery

_MAX_PRIORITY = 2**31 - 1
"""Maximum of its column, a 32-bit integer."""
_Value = str | float | None


def _is_text(value: object) -> bool:
    # JSON can carry U+0000 and lone surrogates; databases accept neither.
    return isinstance(value, str) and re.search("[\x00\ud800-\udfff]", value) is None


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER


def _is_priority(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_PRIORITY


@dataclass(frozen=True)
class _Sort:
    """The sort key of a list; runs with equal values are ordered by number.

    Attributes:
        value: SQL expression; None: by number alone.
        nullable: True if there are runs without the value.
        fits: tests if a value from a cursor has the right type and range.
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


def list_runs(session: Session, query: RunQuery) -> RunPage:
    """Read one page of runs.

    Raises:
        InvalidRequestError: the cursor is not of this list, or the method is not installed.
    """
    check_method(query)
    sort = _sort_of(query.sort)
    rows_of = _ordered(select(RunRow), sort, descending=query.order == "desc")
    rows_of = rows_of.where(*conditions(query, session.get_bind().dialect.name))
    if query.cursor is not None:
        value, number = _read_cursor(query, sort)
        rows_of = rows_of.where(_after(sort, value, number, descending=query.order == "desc"))
    with_value = rows_of.add_columns(sort.value if sort.value is not None else RunRow.number)
    rows = session.execute(
        with_value.options(load_only(*SUMMARY_COLUMNS, raiseload=True)).limit(query.limit + 1)
    ).all()
    page = rows[: query.limit]
    cursor = None
    if len(rows) > query.limit:
        last, value = page[-1]
        of_sort = value if sort.value is not None else None
        cursor = write_cursor(list_digest(query), of_sort, last.number)
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
    """Return the condition for runs that come after the one with this value and number."""
    if sort.value is None:
        return RunRow.number < number if descending else RunRow.number > number
    if value is None:
        return and_(sort.value.is_(None), RunRow.number < number)
    beyond = sort.value < value if descending else sort.value > value
    later = or_(beyond, and_(sort.value == value, RunRow.number < number))
    return or_(later, sort.value.is_(None)) if sort.nullable else later


def _read_cursor(query: RunQuery, sort: _Sort) -> tuple[_Value, int]:
    cursor = query.cursor or ""
    value, number = read_cursor(cursor, list_digest(query))
    if not (sort.fits(value) or (value is None and sort.nullable)):
        raise not_a_cursor(cursor)
    return value, number
