"""The event stream of all runs over a real connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from api.db import run_states
from api.db.tables import RunEventRow, RunRow
from api.events.order import EventOrder, place_of_now
from api.storage.deletion import finish_deletions
from pmae.client import PmaeClient
from pmae.schema import RunSummary
from pmae.schema.runs import ServiceEvent
from tests.api.live import LiveApi
from tests.support.events import SentEvent, sent_events
from tests.support.waiting import wait_until


@contextmanager
def stream(
    api: LiveApi, last_event_id: int | None = None, **params: str
) -> Iterator[Iterator[SentEvent]]:
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    with api.client.stream("GET", "/events", headers=headers, params=params) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield sent_events(response)


def kept(events: Iterator[SentEvent]) -> Iterator[SentEvent]:
    return (event for event in events if event.id is not None)


def messages(events: Iterator[SentEvent], count: int) -> list[str]:
    return [event.data["message"] for event in islice(kept(events), count)]


def test_every_run_is_told_of_from_now_on(api: LiveApi) -> None:
    old = api.add_run()
    api.add_event(old.number, "long ago")
    with stream(api) as events:
        run_id = api.submit()
        with api.sessions.begin() as session:
            claim = run_states.claim(session, worker="w", lease_seconds=60)
        assert claim is not None
        later = kept(events)
        submitted = next(later)
        assert submitted.type == "state"
        event = ServiceEvent.model_validate(submitted.data)
        assert (event.run_id, event.message, str(event.id)) == (run_id, "submitted", submitted.id)
        assert event.run is not None
        assert event.run.id == run_id
        claimed = ServiceEvent.model_validate(next(later).data)
        assert (claimed.run_id, claimed.data["to"]) == (old.id, "running")
        assert claimed.run is not None
        assert claimed.run.state == "running"


def test_a_broken_stream_goes_on_where_it_was(api: LiveApi) -> None:
    rows = [api.add_run(), api.add_run()]
    ids = [api.add_event(rows[index % 2].number, f"event {index}") for index in range(6)]
    with stream(api, ids[2]) as events:
        assert messages(events, 3) == ["event 3", "event 4", "event 5"]
    with stream(api, 0) as events:
        assert messages(events, 3) == ["submitted", "submitted", "event 0"]


def test_types_choose(api: LiveApi) -> None:
    row = api.add_run()
    with stream(api, 0, types="stage,cancel") as events:
        api.add_event(row.number, "a stage")
        api.client.post(f"/runs/{row.id}/cancel")
        api.add_event(row.number, "another stage")
        assert messages(events, 2) == ["a stage", "another stage"]
    bad = api.client.get("/events", params={"types": "state,stages"})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "types")
    assert "did you mean 'stage'" in bad.json()["detail"]


def test_what_cannot_be_followed_is_named(api: LiveApi, subtests: pytest.Subtests) -> None:
    asked: list[tuple[dict[str, str], dict[str, str], str]] = [
        ({"types": "x" * 401}, {}, "types"),
        ({"type": "state"}, {}, "type"),
        ({}, {"Last-Event-ID": "x"}, "last-event-id"),
        ({}, {"Last-Event-ID": "-1"}, "last-event-id"),
        ({}, {"Last-Event-ID": str(2**53 + 1)}, "last-event-id"),
    ]
    for params, headers, field in asked:
        with subtests.test(params=params, headers=headers):
            bad = api.client.get("/events", params=params, headers=headers)
            assert bad.status_code == 422
            assert bad.headers["content-type"] == "application/problem+json"
            assert [error["pointer"] for error in bad.json()["errors"]] == [field]


def test_progress_comes_in_coarse_steps(api: LiveApi) -> None:
    def progress(done: int) -> dict[str, Any]:
        return {"stage": "pretrain", "epoch": 0, "done": done, "total": 1000}

    row = api.add_run(state="running", progress=progress(10))
    with stream(api, types="progress") as events:
        first = next(events)
        assert (first.type, first.id) == ("progress", None)
        assert RunSummary.model_validate(first.data).progress.done == 10
        for done in (11, 12, 25):
            with api.sessions.begin() as session:
                session.execute(update(RunRow).values(progress=progress(done)))
        following = RunSummary.model_validate(next(events).data)
        assert following.progress.done == 25, "within one per cent nothing is told"
        assert following.id == row.id


def test_a_long_backlog_arrives_whole_and_in_order(
    api: LiveApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.events.look.MAX_ROWS", 7)
    monkeypatch.setattr("api.events.order._MOST_IDS", 5)
    monkeypatch.setattr("api.events.listener.MAX_WAITING", 5)
    rows = [api.add_run() for _ in range(3)]
    for index in range(40):
        api.add_event(rows[index % 3].number, f"event {index}")
    gone = api.add_run(state="failed")
    assert api.client.delete(f"/runs/{gone.id}").status_code == 204
    with stream(api, 0) as events:
        found = messages(events, 44)
        api.add_event(rows[0].number, "live")
        ordered = ["submitted"] * 3 + [f"event {index}" for index in range(40)]
        assert found == [*ordered, "deleted"]
        assert messages(events, 1) == ["live"]


def test_deletions_are_told_also_to_who_was_away(api: LiveApi) -> None:
    row, other = api.add_run(state="failed"), api.add_run()
    with stream(api) as events:
        assert api.client.delete(f"/runs/{row.id}").status_code == 204
        told = next(kept(events))
        event = ServiceEvent.model_validate(told.data)
        assert (told.type, event.run_id, event.run, event.actor) == ("delete", row.id, None, "api")
        assert (event.data["number"], event.data["name"]) == (row.number, row.name)
    finish_deletions(api.sessions, api.settings.runs_dir)
    wait_until(lambda: api.count_runs() == 1, "the end of the deletion")
    later = api.add_event(other.number, "later")
    with stream(api, int(told.id or 0) - 1) as events:
        again = [(event.type, event.id) for event in islice(kept(events), 2)]
    assert again == [("delete", told.id), ("stage", str(later))]
    with stream(api, 0, types="delete") as events, PmaeClient(api.url) as client:
        assert next(events).id == told.id
        assert next(client.events(types=["delete"], last_event_id=0)).id == int(told.id or 0)


def test_a_silent_stream_is_kept_open_by_comments(api: LiveApi) -> None:
    with api.client.stream("GET", "/events") as response:
        assert any(line.startswith(":") for line in response.iter_lines())


def test_ids_of_deleted_events_are_not_given_again(api: LiveApi) -> None:
    row, other = api.add_run(), api.add_run()
    newest = api.add_event(other.number, "newest")
    with api.sessions.begin() as session:
        session.execute(delete(RunRow).where(RunRow.number == other.number))
    assert api.add_event(row.number, "next") > newest


def add_event(session: Session, run_number: int, message: str) -> int:
    """As every writer does: the run's row first."""
    session.execute(update(RunRow).where(RunRow.number == run_number).values(worker=message))
    event = RunEventRow(
        run_number=run_number, at=1e9, type="stage", actor="w", message=message, data={}
    )
    session.add(event)
    session.flush()
    return event.id


def on_postgres(api: LiveApi) -> bool:
    return api.settings.sqlalchemy_url.startswith("postgresql")


def test_an_event_that_is_committed_after_a_later_one_is_told_before_it(api: LiveApi) -> None:
    if not on_postgres(api):
        return  # one transaction at a time writes to SQLite
    slow, fast, third = (api.add_run() for _ in range(3))
    with stream(api) as events, stream(api, types="state") as others, api.sessions() as session:
        early = add_event(session, slow.number, "begun first")
        late = api.add_event(fast.number, "committed first")
        assert early < late
        with api.sessions() as undone:
            add_event(undone, third.number, "never there")
            undone.rollback()
        api.add_event(fast.number, "after what was undone")
        # Whoever connects while it is not there yet is told of it too, but not of what is there.
        with stream(api) as joined:
            session.commit()
            assert messages(joined, 1) == ["begun first"]
        told = list(islice(kept(events), 3))
        assert [event.data["message"] for event in told] == [
            "begun first",
            "committed first",
            "after what was undone",
        ]
        assert [int(event.id or 0) for event in told] == sorted(int(e.id or 0) for e in told)
        run_id = api.submit()
        assert next(kept(others)).data["run_id"] == run_id


def test_what_is_complete_waits_for_those_that_run(api: LiveApi) -> None:
    """The order alone, without a stream: what the ids tell at each moment."""
    rows = [api.add_run() for _ in range(3)]
    newest = api.add_event(rows[0].number, "before")
    order = EventOrder()
    with api.sessions() as look:
        order.look(look)
    assert order.complete_to == newest
    if not on_postgres(api):
        return
    with api.sessions() as first, api.sessions() as second:
        lower = add_event(first, rows[0].number, "lower")
        higher = add_event(second, rows[1].number, "higher")
        second.commit()

        def complete_to() -> int | None:
            with api.sessions() as look:
                order.look(look)
            return order.complete_to

        assert complete_to() == newest
        with api.sessions() as look:
            place = place_of_now(look)
        assert place.last_id < lower
        assert higher in place.known
        assert lower not in place.known
        undone = add_event(second, rows[1].number, "undone")
        second.rollback()
        last = api.add_event(rows[2].number, "last")
        assert complete_to() == newest
        first.commit()
        assert [complete_to() for _ in range(2)][-1] == last > undone
