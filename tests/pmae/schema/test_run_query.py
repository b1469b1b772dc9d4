"""The query of a list of runs, as code and people write it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pmae.errors import QueryError
from pmae.schema.run_query import RunQuery, parse_bound, run_query


def test_one_value_means_a_list_of_it_and_none_nothing() -> None:
    query = run_query(state="failed,queued", tag="a,b", metric="top1>0.5", owner=None)
    assert query == RunQuery(state=("failed", "queued"), tag=("a,b",), metric=("top1>0.5",))
    assert query.has_filters
    assert query.model_fields_set == {"state", "tag", "metric"}


def test_order_and_page_leave_no_run_out() -> None:
    query = run_query(sort="metric:val_loss", order="asc", limit=3)
    assert not query.has_filters
    assert query.page("next", limit=7) == query.model_copy(update={"cursor": "next", "limit": 7})


def test_a_time_without_a_zone_is_in_utc() -> None:
    assert run_query(created_after=datetime(2026, 1, 2)).created_after == datetime(
        2026, 1, 2, tzinfo=UTC
    )


def test_a_bound_has_a_name_a_sign_and_a_number() -> None:
    assert parse_bound(" val_loss <= 5e-1 ") == ("val_loss", "<=", 0.5)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"metric": "loss=3"}, "metric: 'loss=3' is not a bound; expected a metric's name"),
        ({"metric": "loss<nan"}, "metric: 'loss<nan' is not a bound"),
        ({"metric": "los<3"}, "metric: 'los' is no metric; valid are loss, lr"),
        ({"sort": "metric:los"}, "sort: 'los' is no metric; valid are loss, lr"),
        ({"sort": "age"}, "sort: expected one of created, name, top1"),
        ({"state": "lost"}, "state: .*'queued', 'running'"),
        ({"limit": 0, "text": "a\0"}, "text: text cannot hold .*; limit: "),
    ],
)
def test_what_cannot_be_asked_for_is_named(fields: dict[str, object], told: str) -> None:
    with pytest.raises(QueryError, match=told):
        run_query(**fields)


def test_a_filter_that_does_not_exist_is_a_mistake_in_the_program() -> None:
    with pytest.raises(
        TypeError, match="unknown filter stat of a list of runs; expected one of state, kind"
    ):
        run_query(stat="failed")
