"""Following events with the client: typed, over connections that break, until the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path

import httpx
import pytest

from api.settings import ApiSettings
from pmae.client import ApiError, Event, PmaeClient, ServiceUnreachableError, UnexpectedAnswerError
from pmae.client.backoff import FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS, Backoff
from pmae.client.reader import EventReader
from pmae.schema import HistoryEntry, Problem
from tests.api.live import LiveApi, live_api
from tests.support.clients import client_over
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@pytest.fixture
def api_settings(tmp_path: Path) -> ApiSettings:
    return ApiSettings(
        home=tmp_path,
        database_url=f"sqlite:///{tmp_path / 'runs.sqlite3'}",
        broker_url=f"redis+socket://{tmp_path}/no-broker.sock",
        broker_timeout_seconds=0.1,
        stream_poll_seconds=0.02,
    )


@pytest.fixture
def api(api_settings: ApiSettings) -> Iterator[LiveApi]:
    with live_api(api_settings) as served:
        yield served


EVENT_STREAM = {"Content-Type": "text/event-stream"}


def message(event_id: int, text: str = "m", kind: str = "stage", to: str | None = None) -> str:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    data = {} if to is None else {"to": to}
    entry = HistoryEntry(id=event_id, at=at, type=kind, actor="w", message=text, data=data)
    return f"id: {event_id}\nevent: {kind}\ndata: {entry.model_dump_json()}\n\n"


def final(event_id: int) -> str:
    return message(event_id, "done", "state", to="succeeded")


def messages(events: Iterator[Event]) -> list[str]:
    return [event.entry.message for event in events if event.entry is not None]


def test_a_run_is_followed_to_its_end_typed(api: LiveApi) -> None:
    row = api.add_run(state="running", progress={"stage": "pretrain", "done": 1, "total": 9})
    api.add_event(row.number, "read")
    with PmaeClient(api.url) as client:
        events = client.events(row.id)
        found = {event.type: event for event in islice(events, 3)}
        assert found["progress"].progress is not None
        assert found["progress"].progress.total == 9
        assert found["progress"].id is None
        assert found["stage"].entry is not None
        assert found["stage"].id == found["stage"].entry.id
        assert {event.run_id for event in found.values()} == {row.id}
        api.client.post(f"/runs/{row.id}/cancel")
        api.add_event(row.number, "gone", state="cancelled")
        assert messages(events)[-1] == "gone"
        last = found["stage"].id
        assert messages(client.events(row.id, types=["stage"], last_event_id=last)) == ["gone"]


def test_all_runs_are_followed(api: LiveApi) -> None:
    row = api.add_run()
    with PmaeClient(api.url) as client:
        first = next(client.events(types=["state"], last_event_id=0))
        assert (first.run_id, first.run and first.run.name) == (row.id, row.name)
        later = client.events(types=["stage"], last_event_id=first.id)
        for text in ("one", "two"):
            api.add_event(row.number, text)
        assert messages(islice(later, 2)) == ["one", "two"]


def _are_more_than(items: list[str], count: int) -> bool:
    return len(items) > count


@pytest.mark.parametrize("of_all", [False, True], ids=["a run", "all runs"])
def test_a_restarted_api_costs_no_event_and_doubles_none(
    api_settings: ApiSettings, of_all: bool
) -> None:
    port = free_port()
    told: list[str] = []
    waited: list[str] = []
    with ExitStack() as servers:
        api = servers.enter_context(live_api(api_settings, port=port))
        row = api.add_run(state="running")
        with PmaeClient(api.url) as client:
            backoff = Backoff(waited.append)
            reader = EventReader(
                lambda: client.events(None if of_all else row.id, types=["stage"], backoff=backoff),
                lambda event: told.extend(messages(iter([event]))),
            ).start()
            if of_all:  # it is told what happens from now on: not before it has begun
                wait_until(lambda: bool(api.add_event(row.number, "0") and told), "the begin")
                told.clear()
            for round_number in range(3):
                api.add_event(row.number, f"before {round_number}")
                servers.close()
                api.add_event(row.number, f"while away {round_number}")
                wait_until(partial(_are_more_than, waited, round_number), "that somebody notices")
                api = servers.enter_context(live_api(api_settings, port=port))
                api.add_event(row.number, f"after {round_number}")
                wait_until(partial(told.__contains__, f"after {round_number}"), "the newest event")
            expected = [
                f"{when} {number}"
                for number in range(3)
                for when in ("before", "while away", "after")
            ]
            assert [text for text in told if text != "0"] == expected
            assert not reader.has_ended()
        wait_until(reader.has_ended, "the end of a reader whose client is closed")


def test_a_stream_of_all_runs_that_breaks_before_its_first_event_loses_none(
    api_settings: ApiSettings,
) -> None:
    port = free_port()
    told: list[str] = []
    with ExitStack() as servers:
        api = servers.enter_context(live_api(api_settings, port=port))
        row = api.add_run(state="running")
        api.add_event(row.number, "long ago")
        with PmaeClient(api.url) as client:
            types: list[str] = []

            def note(event: Event) -> None:
                types.append(event.type)
                told.extend(messages(iter([event])))

            EventReader(lambda: client.events(backoff=Backoff()), note).start()
            wait_until(lambda: types == ["progress"], "what has no id, of the run under way")
            servers.close()
            api.add_event(row.number, "while away")
            servers.enter_context(live_api(api_settings, port=port))
            wait_until(lambda: bool(told), "an event")
            assert told == ["while away"]


def test_a_slow_reader_gets_everything(api: LiveApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.events.listener.MAX_WAITING", 5)
    row = api.add_run(state="running")
    text = "x" * 20_000
    with PmaeClient(api.url) as client:
        slow, fast = client.events(row.id, types=["stage"]), client.events(row.id, types=["stage"])
        ids = [api.add_event(row.number, text) for _ in range(150)]
        assert next(slow).id == next(fast).id == ids[0]
        assert [event.id for event in islice(fast, 149)] == ids[1:], "one who waits for nobody"
        ids.append(api.add_event(row.number, "end", state="failed"))
        assert [event.id for event in slow] == ids[1:]


def test_it_goes_on_after_the_last_id_and_waits_longer_and_longer() -> None:
    busy = Problem(title="Busy", status=503, code="busy", detail="it starts")
    answers: list[httpx.Response | httpx.TransportError] = [
        httpx.Response(200, headers=EVENT_STREAM, text="retry: 1\n\n" + message(4)),
        httpx.ConnectError("refused"),
        *[httpx.Response(status, text="<html>") for status in (502, 500, 504)] * 2,
        httpx.Response(200, headers=EVENT_STREAM, text=message(5) + "id: 6\nevent: state\ndata: {"),
        httpx.Response(503, content=busy.model_dump_json(), headers={"Retry-After": "7"}),
        httpx.Response(200, headers=EVENT_STREAM, text=final(6)),
    ]
    places: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept"] == "text/event-stream"
        places.append(request.headers.get("last-event-id"))
        following = answers.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    waited: list[float] = []
    told: list[str] = []
    with client_over(answer) as client:
        events = client.events("abcd00000001", backoff=Backoff(told.append, waited.append))
        assert [event.id for event in events] == [4, 5, 6], "a torn one comes again, whole"
    assert places == [None, *["4"] * 8, "5", "5"]
    assert waited[0] == FIRST_WAIT_SECONDS, "a stream that was closed"
    assert waited[:8] == sorted(waited[:8])
    assert waited[7] == MAX_WAIT_SECONDS
    assert waited[8:] == [FIRST_WAIT_SECONDS, 7], "as long as the service asked for"
    assert [text.endswith("; waiting for it") for text in told] == [True, True]
    assert "refused" in told[0]
    assert "it starts" in told[1]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 422])
def test_what_the_service_says_of_the_request_is_not_asked_again(status: int) -> None:
    asked: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status)

    with client_over(refuse) as client, pytest.raises(ApiError, match=str(status)):
        next(client.events("a", backoff=Backoff()))
    assert len(asked) == 1


def test_a_service_that_never_answered_is_an_error() -> None:
    with (
        PmaeClient(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(ServiceUnreachableError, match="refused"),
    ):
        next(client.events())


@pytest.mark.parametrize(
    ("headers", "text", "why"),
    [
        (EVENT_STREAM, "event: stage\ndata: [1]\n\n", "not one of this service"),
        (EVENT_STREAM, "event: progress\ndata: {torn\n\n", "not one of this service"),
        ({"Content-Type": "text/html"}, "<html>", "not with an event stream"),
    ],
)
def test_what_is_no_event_is_an_error(headers: dict[str, str], text: str, why: str) -> None:
    answer = httpx.Response(200, headers=headers, text=text)
    with client_over(lambda _: answer) as client, pytest.raises(UnexpectedAnswerError, match=why):
        next(client.events("a"))


@pytest.mark.parametrize("size", [1, 2, 1_000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_only_line_feeds_and_carriage_returns_end_a_line(end: str, size: int) -> None:
    text = "a\u2028b\u2029c\x85d\u00e9"
    sent = (": heartbeat\n\n" + message(1, text) + final(2)).replace("\n", end).encode()
    chunks = [sent[start : start + size] for start in range(0, len(sent), size)]
    answer = httpx.Response(200, headers=EVENT_STREAM, content=iter(chunks))
    with client_over(lambda _: answer) as client:
        assert messages(client.events("a")) == [text, "done"]
