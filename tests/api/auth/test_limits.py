"""How fast callers may go."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from api.auth.limits import RateLimit
from api.db.tables import AuditRow
from api.settings import ApiSettings
from tests.api.auth.conftest import LockedApi, bearer
from tests.api.live import DIGITS
from tests.support.waiting import wait_until


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_tokens_come_back_with_time_and_each_caller_has_its_own() -> None:
    clock = Clock()
    limit = RateLimit(6, clock)
    assert [limit.seconds_to_wait("a") for _ in range(7)] == [0] * 6 + [10]
    assert limit.seconds_to_wait("b") == 0
    clock.now += 10
    assert limit.seconds_to_wait("a") == 0
    assert limit.seconds_to_wait("a") == pytest.approx(10)
    clock.now += 1e6
    assert [limit.seconds_to_wait("a") for _ in range(7)] == [0] * 6 + [10]
    assert [RateLimit(0, clock).seconds_to_wait("a") for _ in range(100)] == [0] * 100


def test_memory_does_not_grow_with_callers() -> None:
    clock = Clock()
    limit = RateLimit(60, clock)
    for number in range(25_000):
        limit.seconds_to_wait(str(number))
        clock.now += 0.01
    assert len(limit._buckets) <= 10_000


def test_memory_does_not_grow_with_callers_that_come_at_once() -> None:
    limit = RateLimit(2, Clock())
    for number in range(25_000):
        limit.seconds_to_wait(str(number))
        limit.seconds_to_wait("who goes on")
    assert len(limit._buckets) <= 10_000
    assert limit.seconds_to_wait("who goes on") > 0


@pytest.fixture
def locked_settings(api_settings: ApiSettings) -> ApiSettings:
    few = {"require_keys": True, "writes_per_minute": 3, "failed_keys_per_minute": 2}
    return api_settings.model_copy(update=few)


def test_too_many_writes_of_a_key_wait_and_reading_does_not(locked: LockedApi) -> None:
    client = locked.live.client
    headers = locked.headers("ada", "submitter")
    answers = [client.post("/runs", json=DIGITS, headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert answers[-1].json()["code"] == "too_many_writes"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
    assert client.get("/runs", headers=headers).status_code == 200
    others = locked.headers("bob", "submitter")
    assert client.post("/runs", json=DIGITS, headers=others).status_code == 202
    assert locked.live.count_runs() == 4


def test_who_tries_keys_is_slowed_down_and_holders_at_that_address_are_not(
    locked: LockedApi,
) -> None:
    client = locked.live.client
    wrong = bearer("pmae_000000000000_" + "A" * 43)
    answers = [client.get("/runs", headers=wrong) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert answers[-1].json()["code"] == "too_many_failures"
    assert "retry-after" in answers[-1].headers
    assert client.get("/runs", headers=locked.headers("ada")).status_code == 200
    assert client.get("/runs").json()["code"] == "key_required"


def test_strangers_that_write_are_slowed_down(locked: LockedApi) -> None:
    answers = [locked.live.client.post("/runs", json=DIGITS) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/nowhere", b""),
        ("POST", "/checkpoints/0123456789ab-00000001/links", b"{}"),
        ("PATCH", "/runs/0123456789ab", b"no JSON"),
    ],
)
def test_the_trail_does_not_grow_faster_than_a_key_may_write(
    locked: LockedApi, method: str, path: str, body: bytes
) -> None:
    """Refused requests are recorded whether or not they came as far as the limit of writes."""
    headers = locked.headers("ada") | {"Content-Type": "application/json"}
    for _ in range(10):
        answer = locked.live.client.request(method, path, content=body, headers=headers)
        assert 400 <= answer.status_code < 500
    locked.live.client.post("/nowhere", headers=locked.headers("last"))

    def recorded(actor: str) -> int:
        query = select(func.count()).select_from(AuditRow).where(AuditRow.actor == actor)
        with locked.live.sessions() as session:
            return session.scalar(query) or 0

    wait_until(lambda: recorded("last") == 1, "the last entry")
    assert recorded("ada") == 3
