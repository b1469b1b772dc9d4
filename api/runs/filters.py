"""Which runs a list shows, and in which order: the query parameters, and what they are in SQL."""

from __future__ import annotations

import hashlib
import math
import operator
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from sqlalchemy import ColumnElement, func, or_, select

from api.db.tables import RunRow
from api.http.pagination import DEFAULT_LIMIT, Cursor, Limit
from api.http.parameters import FilterText
from pmae.metrics import METRICS, unknown_metric
from pmae.schema import RunKind, RunState
from pmae.spec import MethodName
from pmae.spec.messages import told_as
from pmae.spec.methods import method_names

METRIC_NAME = r"[A-Za-z0-9_][A-Za-z0-9_./@-]{0,63}"
_BOUND = re.compile(rf"\s*({METRIC_NAME})\s*(<=|>=|<|>)\s*(\S+)\s*")
_BY_METRIC = "metric:"
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _split(value: object) -> object:
    """``a,b`` and a parameter given twice mean the same."""
    if not isinstance(value, list):
        return value
    return [part for text in value for part in text.split(",") if part]


def _number(text: str) -> float:
    """NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _known(name: str) -> str:
    if name not in METRICS:
        raise PydanticCustomError("unknown_metric", "{reason}", {"reason": unknown_metric(name)})
    return name


def _check_sort(sort: str) -> str:
    if sort.startswith(_BY_METRIC):
        _known(sort.removeprefix(_BY_METRIC))
    return sort


def _parse_bound(text: str) -> tuple[str, str, float]:
    found = _BOUND.fullmatch(text)
    if found is not None and math.isfinite(value := _number(found[3])):
        return _known(found[1]), found[2], value
    raise PydanticCustomError(
        "metric_bound",
        "{text} is no bound; valid is a metric's name, one of < <= > >=, and a number: "
        "val_loss<0.5",
        {"text": repr(text)},
    )


def _check_bound(text: str) -> str:
    _parse_bound(text)
    return text


def _check_method(name: str) -> str:
    if name not in method_names():
        raise PydanticCustomError(
            "unknown_method",
            "no method {name} is installed; expected one of {valid}",
            {"name": repr(name), "valid": ", ".join(method_names())},
        )
    return name


def _in_utc(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


_Commas = BeforeValidator(_split)
_Moment = Annotated[datetime, AfterValidator(_in_utc)]
_Method = Annotated[MethodName, AfterValidator(_check_method)]
_Bound = Annotated[str, Field(max_length=200), AfterValidator(_check_bound)]
_MostOfOne = 20
"""Tags and bounds of one request."""


class RunFilters(BaseModel):
    """Which runs a list shows, in which order. Filters are combined by "and"."""

    model_config = ConfigDict(frozen=True)

    state: Annotated[tuple[RunState, ...], _Commas] = Field(
        default=(), description="Only runs in one of these states; with commas, or given again."
    )
    kind: RunKind | None = Field(default=None, description="Only runs of this kind.")
    method: _Method | None = Field(default=None, description="Only this method.")
    dataset: FilterText | None = Field(default=None, description="Only this data set.")
    tag: tuple[FilterText, ...] = Field(
        default=(),
        max_length=_MostOfOne,
        description="Only runs with this tag; given again: with all of them.",
    )
    name: FilterText | None = Field(
        default=None, description="Only runs whose name contains this text, in any case."
    )
    text: FilterText | None = Field(
        default=None,
        description="Only runs whose name or notes contain this text, in any case, or whose id "
        "begins with it.",
    )
    owner: FilterText | None = Field(
        default=None, description="Only runs that the API key of this name submitted."
    )
    pinned: bool | None = Field(default=None, description="Only pinned runs, or only others.")
    created_after: _Moment | None = Field(
        default=None, description="Submitted then or later. Without a time zone: UTC."
    )
    created_before: _Moment | None = Field(default=None, description="Submitted before then.")
    finished_after: _Moment | None = Field(default=None, description="Ended then or later.")
    finished_before: _Moment | None = Field(default=None, description="Ended before then.")
    metric: tuple[_Bound, ...] = Field(
        default=(),
        max_length=_MostOfOne,
        description="Only runs whose newest value of a metric is within a bound: `val_loss<0.5`, "
        "with `<`, `<=`, `>` or `>=`; given again: all of them. `top1` is the linear probe of the "
        "trained encoder; the other names are those of the runs' metrics. A run without the "
        "metric is left out.",
        examples=[["val_loss<0.5", "top1>=0.9"]],
    )
    sort: Annotated[
        str,
        Field(
            pattern=told_as(
                rf"^(created|name|top1|finished|priority|metric:{METRIC_NAME})$",
                "valid are created, name, top1, finished, priority and metric:<name>",
            )
        ),
        AfterValidator(_check_sort),
    ] = Field(
        default="created",
        description="created, name, top1, finished, priority, or metric:<name> for the newest "
        "value of a metric. Runs without the value come last.",
        examples=["metric:val_loss"],
    )
    order: Literal["asc", "desc"] = Field(
        default="desc", description="Of equal ones the newest run comes first."
    )
    limit: Limit = Field(default=DEFAULT_LIMIT, description="Most runs in the answer.")
    cursor: Cursor | None = Field(
        default=None,
        description="`next_cursor` of the page before; the other parameters stay as they were.",
    )

    @property
    def digest(self) -> str:
        """Of what decides which runs come in which order: the pages of one list share it."""
        chosen = self.model_dump_json(exclude={"limit", "cursor"})
        return hashlib.sha256(chosen.encode()).hexdigest()[:16]


def conditions(filters: RunFilters, dialect: str) -> list[ColumnElement[bool]]:
    """What holds for every run of the list."""
    found: list[ColumnElement[bool]] = [RunRow.deleted_at.is_(None)]
    if filters.state:
        found.append(RunRow.state.in_(filters.state))
    found += [
        column == value
        for column, value in (
            (RunRow.kind, filters.kind),
            (RunRow.method, filters.method),
            (RunRow.dataset, filters.dataset),
            (RunRow.owner, filters.owner),
            (RunRow.pinned, filters.pinned),
        )
        if value is not None
    ]
    if filters.name is not None:
        found.append(RunRow.name.icontains(filters.name, autoescape=True))
    if filters.text is not None:
        found.append(
            or_(
                RunRow.name.icontains(filters.text, autoescape=True),
                RunRow.notes.icontains(filters.text, autoescape=True),
                RunRow.id.startswith(filters.text.lower(), autoescape=True),
            )
        )
    found += [_tagged(tag, dialect) for tag in filters.tag]
    found += _dated(filters)
    for text in filters.metric:
        name, sign, value = _parse_bound(text)
        found.append(_OPERATORS[sign](metric_value(name), value))
    return found


def _dated(filters: RunFilters) -> Sequence[ColumnElement[bool]]:
    bounds = (
        (operator.ge, RunRow.created_at, filters.created_after),
        (operator.lt, RunRow.created_at, filters.created_before),
        (operator.ge, RunRow.finished_at, filters.finished_after),
        (operator.lt, RunRow.finished_at, filters.finished_before),
    )
    return [compare(column, at.timestamp()) for compare, column, at in bounds if at is not None]


def _tagged(tag: str, dialect: str) -> ColumnElement[bool]:
    unnest = func.json_array_elements_text if dialect == "postgresql" else func.json_each
    tags = unnest(RunRow.tags).table_valued("value", name="tag")
    return select(tags.c.value).where(tags.c.value == tag).exists()


def metric_value(name: str) -> ColumnElement[Any]:
    """The newest value of a metric of a run, NULL without one."""
    if name == "top1":
        return RunRow.top1.expression
    value: ColumnElement[Any] = RunRow.last_metrics[name].as_float()
    return value
