"""SQL conditions of the query of a list of runs."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select

from api.db.tables import RunRow
from api.http.errors import InvalidRequestError
from pmae.schema import ProblemField
from pmae.schema.run_query import RunQuery, parse_bound
from pmae.spec.methods import method_names

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def check_method(query: RunQuery) -> None:
    """Refuse to list the runs of a method that is not installed.

    Raises:
        InvalidRequestError: names the methods that are.
    """
    if query.method is not None and query.method not in method_names():
        message = f"{query.method!r} is not installed; expected one of {', '.join(method_names())}"
        raise InvalidRequestError(message, fields=[ProblemField(pointer="method", message=message)])


def list_digest(query: RunQuery) -> str:
    """Digest of the filters and the order: the pages of one list share it."""
    chosen = query.model_dump_json(exclude={"limit", "cursor"})
    return hashlib.sha256(chosen.encode()).hexdigest()[:16]


def conditions(query: RunQuery, dialect: str) -> list[ColumnElement[bool]]:
    """Return the SQL conditions that every run of the list meets."""
    found: list[ColumnElement[bool]] = [RunRow.deleted_at.is_(None)]
    if query.state:
        found.append(RunRow.state.in_(query.state))
    found += [
        column == value
        for column, value in (
            (RunRow.kind, query.kind),
            (RunRow.method, query.method),
            (RunRow.dataset, query.dataset),
            (RunRow.owner, query.owner),
            (RunRow.pinned, query.pinned),
        )
        if value is not None
    ]
    if query.name is not None:
        found.append(RunRow.name.icontains(query.name, autoescape=True))
    if query.text is not None:
        found.append(
            or_(
                RunRow.name.icontains(query.text, autoescape=True),
                RunRow.notes.icontains(query.text, autoescape=True),
                RunRow.id.startswith(query.text.lower(), autoescape=True),
            )
        )
    found += [_tagged(tag, dialect) for tag in query.tag]
    found += _dated(query)
    for text in query.metric:
        name, sign, value = parse_bound(text)
        found.append(_OPERATORS[sign](metric_value(name), value))
    return found


def _dated(query: RunQuery) -> Sequence[ColumnElement[bool]]:
    bounds = (
        (operator.ge, RunRow.created_at, query.created_after),
        (operator.lt, RunRow.created_at, query.created_before),
        (operator.ge, RunRow.finished_at, query.finished_after),
        (operator.lt, RunRow.finished_at, query.finished_before),
    )
    return [compare(column, at.timestamp()) for compare, column, at in bounds if at is not None]


def _tagged(tag: str, dialect: str) -> ColumnElement[bool]:
    unnest = func.json_array_elements_text if dialect == "postgresql" else func.json_each
    tags = unnest(RunRow.tags).table_valued("value", name="tag")
    return select(tags.c.value).where(tags.c.value == tag).exists()


def metric_value(name: str) -> ColumnElement[Any]:
    """SQL expression of a run's newest value of a metric; NULL without one."""
    if name == "top1":
        return RunRow.top1.expression
    value: ColumnElement[Any] = RunRow.last_metrics[name].as_float()
    return value
