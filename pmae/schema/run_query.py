"""Filters and order of a list of runs: one model for API, client, command line and dashboard."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from pmae.errors import QueryError
from pmae.metrics import METRICS, unknown_metric
from pmae.schema import MOST_IN_A_PAGE, RunKind, RunState
from pmae.spec import MethodName
from pmae.spec.messages import NO_NUL, faults, with_message

DEFAULT_LIMIT = 50
BY_METRIC = "metric:"
_METRIC_NAME = r"[A-Za-z0-9_][A-Za-z0-9_./@-]{0,63}"
_BOUND = re.compile(rf"\s*({_METRIC_NAME})\s*(<=|>=|<|>)\s*(\S+)\s*")
_MAX_VALUES = 20
"""Maximum number of tags, and of metric bounds, in one query."""


def _listed(value: object) -> object:
    """Wrap a single value in a list."""
    return [value] if isinstance(value, str) else value


def _split(value: object) -> object:
    """Split ``a,b``, which means the same as a repeated parameter."""
    found = _listed(value)
    if not isinstance(found, list):
        return found
    return [part for text in found for part in text.split(",") if part]


def _number(text: str) -> float:
    """Parse a number; return NaN if the text is not one."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _known(name: str) -> str:
    if name not in METRICS:
        raise PydanticCustomError("unknown_metric", "{reason}", {"reason": unknown_metric(name)})
    return name


def _check_sort(sort: str) -> str:
    if sort.startswith(BY_METRIC):
        _known(sort.removeprefix(BY_METRIC))
    return sort


def parse_bound(text: str) -> tuple[str, str, float]:
    """Parse a metric bound into name, one of ``< <= > >=``, and a finite number.

    Raises:
        PydanticCustomError: ``text`` is not a bound, or the metric is unknown.
    """
    found = _BOUND.fullmatch(text)
    if found is not None and math.isfinite(value := _number(found[3])):
        return _known(found[1]), found[2], value
    raise PydanticCustomError(
        "metric_bound",
        "{text} is not a bound; expected a metric's name, one of < <= > >=, and a number: "
        "val_loss<0.5",
        {"text": repr(text)},
    )


def _check_bound(text: str) -> str:
    parse_bound(text)
    return text


def _in_utc(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


Order = Literal["asc", "desc"]
"""Order of a list: ascending or descending."""
FilterText = Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)]
"""Text of a filter, without U+0000, which no database accepts."""
Limit = Annotated[int, Field(ge=1, le=MOST_IN_A_PAGE)]
Cursor = Annotated[str, Field(max_length=1024)]
_OneOrMore = BeforeValidator(_listed)
_Commas = BeforeValidator(_split)
_Moment = Annotated[datetime, AfterValidator(_in_utc)]
_Bound = Annotated[str, Field(max_length=200), AfterValidator(_check_bound)]


class RunQuery(BaseModel):
    """Filters and order of a list of runs. A run must match all filters."""

    model_config = ConfigDict(frozen=True)

    state: Annotated[tuple[RunState, ...], _Commas] = Field(
        default=(), description="Only runs in one of these states: comma-separated, or repeated."
    )
    kind: RunKind | None = Field(default=None, description="Only runs of this kind.")
    method: MethodName | None = Field(default=None, description="Only this method.")
    dataset: FilterText | None = Field(default=None, description="Only this data set.")
    tag: Annotated[tuple[FilterText, ...], _OneOrMore] = Field(
        default=(),
        max_length=_MAX_VALUES,
        description="Only runs with this tag; repeated: with all of them.",
    )
    name: FilterText | None = Field(
        default=None, description="Only runs whose name contains this text; case is ignored."
    )
    text: FilterText | None = Field(
        default=None,
        description="Only runs whose name or notes contain this text (case is ignored) or whose id "
        "begins with it.",
    )
    owner: FilterText | None = Field(
        default=None, description="Only runs submitted with the API key of this name."
    )
    pinned: bool | None = Field(default=None, description="Only pinned, or only unpinned runs.")
    created_after: _Moment | None = Field(
        default=None,
        description="Only runs submitted at this time or later. Without a time zone: UTC.",
    )
    created_before: _Moment | None = Field(
        default=None, description="Only runs submitted before this time."
    )
    finished_after: _Moment | None = Field(
        default=None, description="Only runs that ended at this time or later."
    )
    finished_before: _Moment | None = Field(
        default=None, description="Only runs that ended before this time."
    )
    metric: Annotated[tuple[_Bound, ...], _OneOrMore] = Field(
        default=(),
        max_length=_MAX_VALUES,
        description="Only runs whose newest value of a metric is within a bound: `val_loss<0.5`, "
        "with `<`, `<=`, `>` or `>=`; repeated: within all of them. `top1` is the accuracy of the "
        "linear probe of the trained encoder; the other names are those of the runs' metrics. A "
        "run without the metric is left out.",
        examples=[["val_loss<0.5", "top1>=0.9"]],
    )
    sort: Annotated[
        str,
        Field(
            pattern=with_message(
                rf"^(created|name|top1|finished|priority|metric:{_METRIC_NAME})$",
                "expected one of created, name, top1, finished, priority, metric:<name>",
            )
        ),
        AfterValidator(_check_sort),
    ] = Field(
        default="created",
        description="created, name, top1, finished, priority, or metric:<name> for the newest "
        "value of a metric. Runs without the value come last.",
        examples=["metric:val_loss"],
    )
    order: Order = Field(default="desc", description="Runs with equal values: newest first.")
    limit: Limit = Field(
        default=DEFAULT_LIMIT, description="Maximum number of runs in the response."
    )
    cursor: Cursor | None = Field(
        default=None,
        description="`next_cursor` of the page before; the other parameters must stay the same.",
    )

    @property
    def has_filters(self) -> bool:
        """True if any filter is set."""
        rest = {"sort", "order", "limit", "cursor"}
        return bool(self.model_dump(exclude=rest, exclude_defaults=True))

    def page(self, cursor: str | None, *, limit: int | None = None) -> RunQuery:
        """Return the query of another page: from a ``next_cursor`` on, or None for the first."""
        changes = {"cursor": cursor} | ({} if limit is None else {"limit": limit})
        return self.model_copy(update=changes)


def run_query(**fields: Any) -> RunQuery:
    """Make a :class:`RunQuery` of its fields; those that are None are left out.

    Raises:
        QueryError: a field is not valid; the message names each, and its valid values.
        TypeError: there is no such field.
    """
    unknown = fields.keys() - RunQuery.model_fields
    if unknown:
        raise TypeError(
            f"unknown filter {', '.join(sorted(unknown))} of a list of runs; expected one of "
            f"{', '.join(RunQuery.model_fields)}"
        )
    try:
        return RunQuery(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise QueryError("; ".join(faults(error, depth=1))) from error
