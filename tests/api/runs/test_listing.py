"""Filters, sorting and pages of the list of runs."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.orm import Session

from api.db.tables import RunRow
from api.runs.listing import list_runs
from pmae.schema import RunPage, RunSummary
from pmae.schema.run_query import RunQuery
from tests.api.live import LiveApi


def page(api: LiveApi, **params: Any) -> RunPage:
    response = api.client.get("/runs", params=params)
    assert response.status_code == 200, response.text
    return RunPage.model_validate_json(response.content)


def names(api: LiveApi, **params: Any) -> list[str]:
    return [run.name for run in page(api, **params).items]


def add(api: LiveApi, count: int, make: Callable[[int], dict[str, Any]]) -> None:
    """Many runs, each with what ``make`` says beside what all have."""
    template = api.add_run(deleted_at=1.0)
    columns = {
        column.key: getattr(template, column.key)
        for column in RunRow.__mapper__.column_attrs
        if column.key not in ("number", "deleted_at")
    }
    rows = [
        columns | {"id": f"{random.getrandbits(48):012x}", "deleted_at": None} | make(index)
        for index in range(count)
    ]
    with api.sessions.begin() as session:
        session.execute(insert(RunRow), rows)


def test_several_states_and_all_of_several_tags(api: LiveApi) -> None:
    add(api, 1, lambda _: {"name": "q", "tags": ["a", "b"]})
    add(api, 1, lambda _: {"name": "f", "state": "failed", "tags": ["a"]})
    add(api, 1, lambda _: {"name": "r", "state": "running", "tags": ["b", "c,d"]})
    assert names(api, state="failed,running") == ["r", "f"]
    assert names(api, state=["failed", "queued"]) == ["f", "q"]
    assert names(api, tag=["b", "a"]) == ["q"]
    assert names(api, tag="c,d") == ["r"], "a tag may hold a comma"


def test_text_is_looked_for_in_names_notes_and_ids(api: LiveApi) -> None:
    add(api, 1, lambda _: {"name": "Alpha", "id": "abc123abc123"})
    add(api, 1, lambda _: {"name": "two", "notes": "compared with ALPHA 50%"})
    add(api, 1, lambda _: {"name": "three"})
    assert names(api, text="alpha") == ["two", "Alpha"]
    assert names(api, text="ABC1") == ["Alpha"]
    assert names(api, text="0%") == ["two"]
    assert names(api, text="bc123abc") == [], "an id is known by its beginning"


def test_owner_kind_and_pin(api: LiveApi) -> None:
    add(api, 1, lambda _: {"name": "mine", "owner": "ada", "pinned": True})
    add(api, 1, lambda _: {"name": "probe", "kind": "evaluate"})
    assert names(api, owner="ada") == names(api, pinned=True) == ["mine"]
    assert names(api, pinned=False) == names(api, kind="evaluate") == ["probe"]


def test_dates_bound_from_the_first_moment_to_before_the_last(api: LiveApi) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)

    def at(day: int) -> float:
        return (start + timedelta(days=day)).timestamp()

    add(api, 4, lambda day: {"name": str(day), "created_at": at(day), "finished_at": at(day + 10)})
    add(api, 1, lambda _: {"name": "unfinished", "created_at": at(-30)})
    assert names(api, created_after="2026-03-02T00:00:00Z") == ["3", "2", "1"]
    assert names(api, created_after="2026-03-02", created_before="2026-03-04") == ["2", "1"]
    assert names(api, created_before="2026-03-02T01:00:00+01:00") == ["unfinished", "0"]
    assert names(api, finished_after="2026-03-13") == ["3", "2"]
    assert names(api, finished_before="2026-03-12") == ["0"]


def test_metrics_bound(api: LiveApi) -> None:
    losses = [0.1, 0.5, 1e-7, None]
    add(
        api,
        4,
        lambda i: {
            "name": str(i),
            "last_metrics": {} if losses[i] is None else {"val_loss": losses[i]},
            "top1": i / 10 if i else None,
        },
    )
    assert names(api, metric="val_loss<0.5") == ["2", "0"]
    assert names(api, metric="val_loss <= 0.5") == ["2", "1", "0"]
    assert names(api, metric="val_loss<1e-6") == ["2"]
    assert names(api, metric=["val_loss>0", "top1>=0.1"]) == ["2", "1"]


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"state": "failed,finished"}, "state", "succeeded"),
    ({"kind": "probe"}, "kind", "evaluate"),
    ({"pinned": "maybe"}, "pinned", "boolean"),
    ({"created_after": "yesterday"}, "created_after", "datetime"),
    ({"metric": "val_loss"}, "metric", "val_loss<0.5"),
    ({"metric": "val_loss<nan"}, "metric", "val_loss<0.5"),
    ({"metric": ["top1>0", "a'b<1"]}, "metric", "val_loss<0.5"),
    ({"metric": "unheard_of>0"}, "metric", "val_online_probe_accuracy"),
    ({"sort": "metric:unheard_of"}, "sort", "val_online_probe_accuracy"),
    ({"tag": ["a"] * 21}, "tag", "at most 20"),
    ({"sort": "loss"}, "sort", "metric:"),
    ({"order": "up"}, "order", "'asc' or 'desc'"),
]


def test_a_bad_filter_is_named(api: LiveApi, subtests: pytest.Subtests) -> None:
    for params, field, valid in BAD:
        with subtests.test(params=params):
            response = api.client.get("/runs", params=params)
            assert response.status_code == 422
            (error,) = response.json()["errors"]
            assert error["pointer"] == field
            assert valid in error["message"]


SORTS = ("created", "name", "top1", "finished", "priority", "metric:val_loss")


def value_of(run: RunSummary, sort: str) -> Any:
    match sort:
        case "top1":
            return run.top1
        case "finished":
            return run.finished_at and run.finished_at.timestamp()
        case "priority":
            return run.priority
        case "name":
            return run.name
        case "created":
            return run.number
        case _:
            return run.last_metrics.get("val_loss")


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_join_to_the_sorted_list_while_runs_come_and_go(
    api: LiveApi, sort: str, order: str
) -> None:
    draw = random.Random(f"{sort} {order}")

    def make(_index: int) -> dict[str, Any]:
        loss = draw.choice([None, 0.1, 1 / 3, draw.random(), -2.5e-300, 7])
        return {
            "name": draw.choice(["a", "b", "B", "Zebra", "\u00e4pfel", "", "long " * 20]),
            "top1": draw.choice([None, 0.5, draw.random()]),
            "finished_at": draw.choice([None, 1e9, 1e9 + draw.random()]),
            "priority": draw.choice([-1000, 0, 0, 5]),
            "last_metrics": {} if loss is None else {"val_loss": loss},
        }

    add(api, 60, make)
    whole = page(api, sort=sort, order=order, limit=500)
    assert whole.next_cursor is None
    runs = whole.items
    have = [run for run in runs if value_of(run, sort) is not None]
    assert have == runs[: len(have)], "runs without the value come last"
    if sort != "name":  # text is in the database's own order
        sign = -1 if order == "desc" else 1
        newest = 0 if sort == "created" else -1
        keys = [(sign * value_of(run, sort), newest * run.number) for run in have]
        assert keys == sorted(keys)
    assert [r.number for r in runs[len(have) :]] == sorted(
        (r.number for r in runs[len(have) :]), reverse=True
    )

    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"sort": sort, "order": order, "limit": draw.randint(1, 7)}
        found = page(api, **params, **({"cursor": cursor} if cursor else {}))
        seen += [run.id for run in found.items]
        add(api, 2, make)
        cursor = found.next_cursor
        if cursor is None:
            break
    expected = [run.id for run in runs]
    assert [run_id for run_id in seen if run_id in set(expected)] == expected
    assert len(seen) == len(set(seen))


def test_a_cursor_serves_its_own_list_only(api: LiveApi) -> None:
    add(api, 5, lambda index: {"priority": index})
    cursor = page(api, limit=2, sort="priority", method="pmae").next_cursor
    again = page(api, limit=1, sort="priority", method="pmae", cursor=cursor)
    assert [run.priority for run in again.items] == [2], "another limit is no other list"
    for params in ({"sort": "priority"}, {"method": "pmae"}, {"sort": "priority", "order": "asc"}):
        response = api.client.get("/runs", params=params | {"cursor": cursor})
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "cursor"
        assert "other filters" in response.json()["detail"]


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        ("name", "\ud800"),
        ("finished", 10**400),
        ("metric:loss", 10**20),
        ("top1", 1e400),
        ("priority", 2**40),
    ],
)
def test_a_cursor_that_was_made_up_is_refused(api: LiveApi, sort: str, value: str | float) -> None:
    add(api, 2, lambda _: {"finished_at": 1e9, "top1": 0.5, "last_metrics": {"loss": 0.5}})
    cursor = page(api, limit=1, sort=sort).next_cursor or ""
    digest = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))[0]
    made_up = base64.urlsafe_b64encode(json.dumps([digest, value, 1]).encode()).decode()
    response = api.client.get("/runs", params={"limit": 1, "sort": sort, "cursor": made_up})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "cursor"


def test_a_page_of_many_runs_is_read_along_the_primary_key(api: LiveApi) -> None:
    add(api, 3000, lambda _: {})
    with api.sessions.begin() as session:
        session.execute(text("ANALYZE"))
        first = list_runs(session, RunQuery(limit=50))
        second = RunQuery(limit=50, cursor=first.next_cursor)
        plans = [plan(session, filters) for filters in (RunQuery(limit=50), second)]
    for told in plans:
        assert "runs_pkey" in told or "SCAN runs" in told or "INTEGER PRIMARY KEY" in told
        assert "Sort" not in told
        assert "TEMP B-TREE" not in told


def plan(session: Session, filters: RunQuery) -> str:
    """How the database reads a page."""
    explain = "EXPLAIN QUERY PLAN" if session.get_bind().dialect.name == "sqlite" else "EXPLAIN"
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    connection = session.connection()
    event.listen(connection, "before_cursor_execute", note)
    list_runs(session, filters)
    event.remove(connection, "before_cursor_execute", note)
    statement, parameters = seen[-1]
    rows = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
    return "\n".join(" ".join(map(str, row)) for row in rows)
