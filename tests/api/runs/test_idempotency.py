"""A submission that is sent again makes no second run."""

from __future__ import annotations

import threading

import httpx
import pytest
from sqlalchemy import update

from api.db.tables import IdempotencyKeyRow
from api.runs.idempotency import forget_old_keys
from pmae.schema import Run
from tests.api.live import DIGITS, LiveApi

KEY = {"Idempotency-Key": "a-key-of-mine"}


def test_the_same_request_is_answered_as_the_first_was(api: LiveApi) -> None:
    first = api.client.post("/runs", json=DIGITS, params={"priority": 2}, headers=KEY)
    api.client.post(f"/runs/{first.json()['id']}/cancel")
    reordered = b'{"dataset" : {"name": "digits"}}'
    headers = KEY | {"Content-Type": "application/json"}
    again = api.client.post("/runs?priority=2", content=reordered, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json(), "also where the run has changed since"
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert api.count_runs() == 1
    Run.model_validate_json(again.content)


@pytest.mark.parametrize(
    ("body", "params"),
    [
        ({**DIGITS, "epochs": 3}, {}),
        (DIGITS, {"priority": 1}),
        (DIGITS, {"preset": "quickstart"}),
        ({"nonsense": 1}, {}),
    ],
)
def test_another_request_with_the_key_is_refused(
    api: LiveApi, body: dict[str, object], params: dict[str, str | int]
) -> None:
    first = api.client.post("/runs", json=DIGITS, headers=KEY)
    other = api.client.post("/runs", json=body, params=params, headers=KEY)
    problem = other.json()
    assert (other.status_code, problem["code"]) == (422, "idempotency_key_reused")
    assert first.json()["id"] in problem["detail"]
    assert problem["errors"][0]["pointer"] == "idempotency-key"
    assert api.count_runs() == 1


def test_a_repetition_is_made_once(api: LiveApi) -> None:
    run_id = api.submit(priority=3)
    first = api.client.post(f"/runs/{run_id}/rerun", headers=KEY)
    api.client.patch(f"/runs/{run_id}", json={"priority": 4})
    again = api.client.post(f"/runs/{run_id}/rerun", headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert api.count_runs() == 2
    api.client.post(f"/runs/{run_id}/cancel")
    assert api.client.delete(f"/runs/{run_id}").status_code == 204
    later = api.client.post(f"/runs/{run_id}/rerun", headers=KEY)
    assert later.json() == first.json(), "also where the repeated run is gone"
    assert api.client.post(f"/runs/{run_id}/rerun").status_code == 404


def test_a_run_is_resumed_once(api: LiveApi) -> None:
    run_id = api.submit()
    api.client.post(f"/runs/{run_id}/cancel")
    refused = api.client.post(f"/runs/{api.submit()}/resume", headers=KEY)
    assert refused.json()["code"] == "transition_refused", "and the key is as good as new"
    first = api.client.post(f"/runs/{run_id}/resume", headers=KEY)
    assert (first.status_code, first.json()["state"]) == (202, "queued")
    assert first.headers["location"] == f"/api/v1/runs/{run_id}"
    api.client.post(f"/runs/{run_id}/cancel")
    again = api.client.post(f"/runs/{run_id}/resume", headers=KEY)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert api.client.get(f"/runs/{run_id}").json()["state"] == "cancelled"


def test_a_key_is_for_one_thing(api: LiveApi) -> None:
    made = api.client.post("/runs", json=DIGITS, headers=KEY).json()["id"]
    other = api.submit()
    api.client.post(f"/runs/{other}/cancel")
    for path in (f"/runs/{made}/rerun", f"/runs/{other}/rerun", f"/runs/{other}/resume"):
        refused = api.client.post(path, headers=KEY)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
        assert made in refused.json()["detail"]
    rerun = {"Idempotency-Key": "another"}
    api.client.post(f"/runs/{made}/rerun", headers=rerun)
    assert api.client.post(f"/runs/{other}/rerun", headers=rerun).status_code == 422
    assert api.count_runs() == 3


def test_a_request_that_was_refused_does_not_use_its_key(api: LiveApi) -> None:
    refused = api.client.post("/runs", json={"dataset": {"name": "x"}}, headers=KEY)
    assert refused.json()["code"] == "invalid_spec"
    assert api.client.post("/runs", json=DIGITS, headers=KEY).status_code == 202


def test_simultaneous_requests_with_one_key_make_one_run(api: LiveApi) -> None:
    answers: list[httpx.Response] = []
    barrier = threading.Barrier(8)

    def send() -> None:
        barrier.wait()
        answers.append(
            httpx.post(
                f"{api.url}/api/v1/runs", json=DIGITS, headers=KEY, timeout=60, trust_env=False
            )
        )

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [202] * 8
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotent-replayed") for answer in answers].count(None) == 1
    assert api.count_runs() == 1


def test_a_key_that_is_none_is_named(api: LiveApi, subtests: pytest.Subtests) -> None:
    for key in (b"", b"with space", b"x" * 201, "\u00e9".encode()):
        with subtests.test(key=key):
            response = api.client.post("/runs", json=DIGITS, headers={b"Idempotency-Key": key})
            assert response.status_code == 422
            pointers = [field["pointer"] for field in response.json()["errors"]]
            assert pointers == ["idempotency-key"]
    assert api.count_runs() == 0


def test_old_keys_are_forgotten(api: LiveApi) -> None:
    api.client.post("/runs", json=DIGITS, headers=KEY)
    assert forget_old_keys(api.sessions, retention_days=30) == 0
    with api.sessions.begin() as session:
        session.execute(
            update(IdempotencyKeyRow).values(created_at=IdempotencyKeyRow.created_at - 31 * 86_400)
        )
    assert forget_old_keys(api.sessions, retention_days=30) == 1
    api.client.post("/runs", json=DIGITS, headers=KEY)
    assert api.count_runs() == 2
