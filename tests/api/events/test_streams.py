"""Event streams over a real connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import delete, update

from api.db import run_states
from api.db.tables import RunEventRow, RunRow
from pmae.client import PmaeClient
from pmae.schema import HistoryEntry, Progress
from tests.api.live import LiveApi
from tests.support.events import SentEvent, sent_events


@contextmanager
def stream(
    api: LiveApi, run_id: str, last_event_id: int | None = None
) -> Iterator[Iterator[SentEvent]]:
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    with api.client.stream("GET", f"/runs/{run_id}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield sent_events(response)


def kept(events: Iterator[SentEvent]) -> Iterator[SentEvent]:
    return (event for event in events if event.id is not None)


def test_a_run_is_followed_from_its_start_to_its_end(api: LiveApi) -> None:
    run_id = api.submit()
    with stream(api, run_id) as events:
        assert next(kept(events)).data["data"]["to"] == "queued"
        with api.sessions.begin() as session:
            claim = run_states.claim(session, worker="w", lease_seconds=60)
        assert claim is not None
        assert next(kept(events)).data["data"]["to"] == "running"
        api.add_event(claim.number, "the data is read")
        told = next(kept(events))
        assert (told.type, told.data["message"]) == ("stage", "the data is read")
        assert told.data["id"] == int(told.id or "")
        with api.sessions.begin() as session:
            run_states.finish(session, claim, state="succeeded", reason="done")
        assert [event.data["data"]["to"] for event in kept(events)] == ["succeeded"]


def test_progress_comes_without_an_id_when_it_changes(api: LiveApi) -> None:
    row = api.add_run(state="running", progress={"stage": "pretrain", "done": 1, "total": 9})
    with stream(api, row.id) as events:
        found = next(event for event in events if event.type == "progress")
        assert found.id is None
        assert Progress.model_validate(found.data).done == 1
        api.add_event(row.number, "finished", state="succeeded")
        assert [event.type for event in events][-1] == "stage", "the final event comes last"


def test_a_broken_stream_goes_on_where_it_was(api: LiveApi) -> None:
    row = api.add_run(state="running")
    ids = [api.add_event(row.number, f"event {index}") for index in range(5)]
    with stream(api, row.id, last_event_id=ids[1]) as events:
        later = kept(events)
        assert [next(later).id for _ in range(3)] == [str(event_id) for event_id in ids[2:]]
        newest = api.add_event(row.number, "event 5")
        assert next(later).id == str(newest)


def test_a_long_history_arrives_whole_and_in_order(
    api: LiveApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.events.look.MAX_ROWS", 7)
    monkeypatch.setattr("api.events.listener.MAX_WAITING", 5)
    row, other = api.add_run(state="running"), api.add_run(state="running")
    ids: list[int] = []
    for index in range(40):
        ids.append(api.add_event(row.number, f"event {index}"))
        api.add_event(other.number, f"other {index}")
    api.add_event(row.number, "end", state="failed")
    with stream(api, row.id) as events:
        messages = [event.data["message"] for event in kept(events)]
    assert messages == ["submitted", *(f"event {index}" for index in range(40)), "end"]


def test_listeners_of_one_run_each_get_all_of_it(api: LiveApi) -> None:
    row = api.add_run(state="running")
    first_id = api.add_event(row.number, "one")
    with stream(api, row.id) as early, stream(api, row.id, first_id) as late:
        assert [next(kept(early)).data["message"] for _ in range(2)] == ["submitted", "one"]
        api.add_event(row.number, "two", state="succeeded")
        assert [event.data["message"] for event in kept(early)] == ["two"]
        assert [event.data["message"] for event in kept(late)] == ["two"]


def test_a_silent_stream_is_kept_open_by_comments(api: LiveApi) -> None:
    row = api.add_run(state="running")
    with api.client.stream("GET", f"/runs/{row.id}/events") as response:
        assert any(line.startswith(":") for line in response.iter_lines())


def test_an_ended_run_tells_a_browser_to_stay_away(api: LiveApi) -> None:
    run_id = api.submit()
    api.client.post(f"/runs/{run_id}/cancel")
    with stream(api, run_id) as events:
        last = [event.id for event in kept(events)][-1]
    headers = {"Last-Event-ID": str(last)}
    assert api.client.get(f"/runs/{run_id}/events", headers=headers).status_code == 204
    bad = api.client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": "x"})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "last-event-id")


def test_the_client_understands_the_stream(api: LiveApi) -> None:
    run_id = api.submit()
    api.client.post(f"/runs/{run_id}/cancel")
    with PmaeClient(api.url) as client:
        states = [
            event.entry.data["to"]
            for event in client.events(run_id, types=["state"])
            if event.entry is not None
        ]
    assert states == ["queued", "cancelled"]


def test_text_with_unusual_line_ends_is_told_whole(api: LiveApi) -> None:
    text = "one\u2028two\u2029three\x85four"
    row = api.add_run(state="running", name=text)
    told = api.add_event(row.number, text, state="failed")
    with PmaeClient(api.url) as client:
        of_run = list(client.events(row.id))[-1]
        of_all = next(client.events(types=["stage"], last_event_id=told - 1))
    assert of_run.entry is not None
    assert of_all.entry is not None
    assert of_all.run is not None
    assert of_run.entry.message == of_all.entry.message == of_all.run.name == text
    sent = api.client.get(f"/runs/{row.id}/events").text
    assert sent.splitlines() == sent.split("\n")[:-1], "also readers that split there get it"
    assert "one\\u2028two" in sent


def test_a_client_that_leaves_does_not_disturb_the_others(api: LiveApi) -> None:
    row = api.add_run(state="running")
    for _ in range(5):
        with httpx.stream("GET", f"{api.url}/api/v1/runs/{row.id}/events", trust_env=False) as one:
            next(one.iter_lines())
    with stream(api, row.id) as events:
        api.add_event(row.number, "end", state="succeeded")
        assert [event.data["message"] for event in kept(events)] == ["submitted", "end"]


def test_a_run_that_is_deleted_meanwhile_ends_its_stream(
    api: LiveApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.events.listener.MAX_WAITING", 1)  # a message in each look
    rows = [api.add_run(state="running") for _ in range(2)]
    with stream(api, rows[0].id) as events, stream(api, rows[1].id) as others:
        assert next(kept(events)).data["message"] == "submitted"
        assert next(kept(others)).data["message"] == "submitted"
        with api.sessions.begin() as session:  # both between two looks
            ended = update(RunRow).where(RunRow.id == rows[0].id).values(state="failed")
            session.execute(ended)
            session.add(
                RunEventRow(
                    run_number=rows[0].number,
                    at=1e9,
                    type="stage",
                    actor="w",
                    message="the end",
                    data={},
                )
            )
            run_states.mark_deleted(session, rows[0].id, actor="ada")
        told = list(kept(events))
        assert [(event.type, event.data["message"]) for event in told] == [
            ("stage", "the end"),
            ("delete", "deleted"),
        ]
        deletion = HistoryEntry.model_validate(told[-1].data)
        assert (deletion.actor, deletion.data["run_id"]) == ("ada", rows[0].id)
        api.add_event(rows[1].number, "goes on", state="succeeded")
        assert [event.data["message"] for event in kept(others)] == ["goes on"]
    headers = {"Last-Event-ID": told[0].id or ""}
    assert api.client.get(f"/runs/{rows[0].id}/events", headers=headers).status_code == 404


def test_a_run_whose_rows_are_gone_ends_its_stream(api: LiveApi) -> None:
    row = api.add_run(state="running")
    with stream(api, row.id) as events:
        assert next(kept(events)).data["message"] == "submitted"
        with api.sessions.begin() as session:
            session.execute(delete(RunRow).where(RunRow.id == row.id))
        assert [event.type for event in kept(events)] == []
