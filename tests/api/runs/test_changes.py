"""Changing a run's name, tags, notes, pin and priority."""

from __future__ import annotations

from typing import Any

import pytest

from pmae.schema import History, Run
from tests.api.live import DIGITS, LiveApi


def change(api: LiveApi, run_id: str, body: dict[str, Any]) -> Run:
    response = api.client.patch(f"/runs/{run_id}", json=body)
    assert response.status_code == 200, response.text
    return Run.model_validate_json(response.content)


def told(api: LiveApi, run_id: str) -> list[str]:
    history = History.model_validate_json(api.client.get(f"/runs/{run_id}/history").content)
    return [entry.message for entry in history.items if entry.type == "change"]


def test_what_is_given_changes_and_the_rest_stays(api: LiveApi) -> None:
    run_id = api.submit(DIGITS | {"name": "first", "tags": ["a"], "notes": "n"})
    before = Run.model_validate_json(api.client.get(f"/runs/{run_id}").content)
    assert (before.notes, before.pinned) == ("n", False)
    run = change(api, run_id, {"name": " second ", "tags": ["b", "c"], "pinned": True})
    assert (run.name, run.tags, run.notes, run.pinned) == ("second", ["b", "c"], "n", True)
    assert run.spec == before.spec
    assert told(api, run_id) == [
        "changed the name from 'first' to 'second'; changed the tags from a to b, c; pinned"
    ]
    assert change(api, run_id, {"name": "second", "tags": ["b", "c"]}) == run
    assert change(api, run_id, {}) == run
    assert len(told(api, run_id)) == 1, "what stays the same is no change"
    run = change(api, run_id, {"tags": None, "notes": None, "pinned": None})
    assert (run.name, run.tags, run.notes, run.pinned) == ("second", [], "", False)
    assert told(api, run_id)[1] == "changed the tags from b, c to none; changed the notes; unpinned"
    again = api.client.post(f"/runs/{run_id}/rerun").json()
    assert (again["name"], again["tags"]) == ("first", ["a"]), "a repetition has the spec's"


def test_the_priority_of_a_queued_run_changes_its_place(api: LiveApi) -> None:
    first, second = api.submit(), api.submit()
    assert change(api, second, {"priority": 5}).priority == 5
    queue = api.client.get("/queue").json()["items"]
    assert [run["run_id"] for run in queue] == [second, first]
    row = api.add_run(state="running", priority=3)
    response = api.client.patch(f"/runs/{row.id}", json={"priority": 4, "name": "x"})
    assert (response.status_code, response.json()["code"]) == (409, "transition_refused")
    assert "running" in response.json()["detail"]
    assert change(api, row.id, {"priority": 3}).name == row.name, "nothing of it was done"


def test_a_pinned_run_is_not_deleted(api: LiveApi) -> None:
    row = api.add_run(state="succeeded")
    change(api, row.id, {"pinned": True})
    response = api.client.delete(f"/runs/{row.id}")
    assert (response.status_code, response.json()["code"]) == (409, "transition_refused")
    assert "unpin it first" in response.json()["detail"]
    change(api, row.id, {"pinned": False})
    assert api.client.delete(f"/runs/{row.id}").status_code == 204
    assert api.client.patch(f"/runs/{row.id}", json={"name": "x"}).status_code == 404


BAD: list[tuple[dict[str, Any], str]] = [
    ({"spec": {}}, "/spec"),
    ({"state": "failed"}, "/state"),
    ({"name": None}, "/name"),
    ({"name": "  "}, "/name"),
    ({"name": "x" * 121}, "/name"),
    ({"tags": ["a", ""]}, "/tags/1"),
    ({"notes": "a\x00b"}, "/notes"),
    ({"pinned": "perhaps"}, "/pinned"),
    ({"priority": 1001}, "/priority"),
]


def test_a_change_that_is_none_is_refused(api: LiveApi, subtests: pytest.Subtests) -> None:
    run_id = api.submit()
    for body, field in BAD:
        with subtests.test(body=body):
            response = api.client.patch(f"/runs/{run_id}", json=body)
            assert response.status_code == 422
            assert [error["pointer"] for error in response.json()["errors"]] == [field]
    assert told(api, run_id) == []
