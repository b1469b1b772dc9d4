"""An event stream that is open ends with the key, or the session, that opened it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from contextlib import ExitStack
from itertools import pairwise

import pytest
from sqlalchemy import Engine, event, update

from api.auth.service import revoke_key
from api.db.tables import ApiKeyRow, RunRow
from api.events.listener import Listener
from pmae.client import ApiError, Event, PmaeClient
from tests.api.auth.conftest import LockedApi
from tests.support.waiting import wait_until

WAYS = ("run", "service")


def follow(
    client: PmaeClient, way: str, run: RunRow, last_event_id: int | None = None
) -> Iterator[Event]:
    if way == "run":
        return client.events(run.id, last_event_id=last_event_id)
    return client.events(last_event_id=last_event_id or 0)


def first_of(events: Iterator[Event]) -> Event:
    """The first message that is kept: the stream is open then."""
    return next(found for found in events if found.id is not None)


def revoke(locked: LockedApi) -> None:
    with locked.live.sessions.begin() as session:
        revoke_key(session, "ada")


def expire(locked: LockedApi) -> None:
    with locked.live.sessions.begin() as session:
        session.execute(update(ApiKeyRow).where(ApiKeyRow.name == "ada").values(expires_at=1.0))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("end", "why"), [(revoke, "was revoked"), (expire, "has expired")])
def test_it_ends_and_who_connects_again_is_told_why(
    locked: LockedApi, way: str, end: Callable[[LockedApi], None], why: str
) -> None:
    run = locked.live.add_run(state="running")
    with locked.client("ada") as ada, locked.client("bob") as bob:
        others = follow(bob, way, run)
        events = follow(ada, way, run)
        last = first_of(events).id
        assert first_of(others).id == last
        end(locked)
        with pytest.raises(
            ApiError, match=f"the key 'ada' {why}; an admin creates a new one"
        ) as no:
            pytest.fail(f"told {first_of(events)} after that")
        assert no.value.problem.status == 401
        told = locked.live.add_event(run.number, "after that")
        assert first_of(others).id == told, "other keys' streams go on"


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_with_its_session_and_its_keys_other_streams_go_on(
    locked: LockedApi, way: str
) -> None:
    run = locked.live.add_run(state="running")
    with locked.client("ada") as ada, PmaeClient(locked.live.url) as connection:
        token = ada.create_session().token
        browser = connection.with_key(token)
        others, events = follow(ada, way, run), follow(browser, way, run)
        last = first_of(events).id
        assert first_of(others).id == last
        browser.end_session()
        with pytest.raises(ApiError, match="the session was ended; sign in again"):
            pytest.fail(f"told {first_of(events)} after that")
        told = locked.live.add_event(run.number, "after that")
        assert first_of(others).id == told


def test_what_waits_for_a_slow_listener_is_not_sent_any_more() -> None:
    listener = Listener()
    for _ in range(3):
        listener.put(b"secret")
    listener.cut()
    listener.end()
    assert listener.ended
    assert [listener.queue.get_nowait()] == [None]
    assert listener.queue.empty()


def test_one_query_asks_for_all_keys_that_listen(locked: LockedApi) -> None:
    asked: list[int] = []
    """For each query of keys how many it asked for; 0: a query of events."""

    def note(_connection: object, _cursor: object, sql: str, parameters: Sized, *_: object) -> None:
        if "FROM api_keys" in sql and "revoked_at IS NULL" in sql:
            asked.append(len(parameters))
        elif "FROM run_events" in sql:
            asked.append(0)

    streams: list[Iterator[Event]] = []
    run = locked.live.add_run(state="running")
    event.listen(Engine, "before_cursor_execute", note)
    try:
        with ExitStack() as open_streams:
            for number in range(5):
                client = open_streams.enter_context(locked.client(f"reader-{number}"))
                for way in WAYS:
                    streams.append(follow(client, way, run))
                    first_of(streams[-1])
            wait_until(lambda: asked.count(5) >= 3, "three looks for all of them")
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    looks = asked[asked.index(5) :]
    assert not any(one and following for one, following in pairwise(looks))
