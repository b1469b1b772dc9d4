"""Listing, reading and stopping runs."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, update

from api.db import run_states
from api.db.tables import EvaluationRow, RunEventRow, RunRow
from pmae.client import PmaeClient
from pmae.schema import HISTORY_PAGE, History, Run, RunPage
from pmae.spec import ExperimentSpec, resolve
from tests.api.live import LiveApi, problem


def names(api: LiveApi, **params: Any) -> list[str]:
    response = api.client.get("/runs", params=params)
    assert response.status_code == 200, response.text
    return [run.name for run in RunPage.model_validate_json(response.content).items]


def named(name: str, **fields: Any) -> ExperimentSpec:
    spec: dict[str, Any] = {"name": name, "dataset": {"name": "digits"}}
    return ExperimentSpec.model_validate(spec | fields)


def test_filters_narrow_the_list(api: LiveApi) -> None:
    api.add_run(named("Alpha 1", tags=["a", "both"]))
    api.add_run(named("beta_2", tags=["b", "both"], method="mae"), state="failed")
    api.add_run(named("gamma 10%", dataset={"name": "fashion_mnist"}), state="running")
    assert names(api) == ["gamma 10%", "beta_2", "Alpha 1"]
    assert names(api, state="failed") == ["beta_2"]
    assert names(api, method="pmae") == ["gamma 10%", "Alpha 1"]
    assert names(api, dataset="digits") == ["beta_2", "Alpha 1"]
    assert names(api, tag="both") == ["beta_2", "Alpha 1"]
    assert names(api, tag="both", method="mae") == ["beta_2"]
    assert names(api, tag="bot") == []
    assert names(api, name="ALPHA") == ["Alpha 1"]
    assert names(api, name="0%") == ["gamma 10%"], "not a wildcard"
    assert names(api, name="a_") == ["beta_2"], "not a wildcard"


def test_pages_join_without_gap_or_double_while_runs_are_added(api: LiveApi) -> None:
    for index in range(7):
        api.add_run(named(f"run {index}"))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params: dict[str, Any] = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = RunPage.model_validate_json(api.client.get("/runs", params=params).content)
        seen += [run.name for run in page.items]
        api.add_run(named("added meanwhile"))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"run {index}" for index in reversed(range(7))]


BAD_FILTERS: list[tuple[dict[str, Any], str, str]] = [
    ({"state": "finished"}, "state", "succeeded"),
    ({"limit": 0}, "limit", "greater than or equal to 1"),
    ({"cursor": "bm9uc2Vuc2U"}, "cursor", "next_cursor"),
    ({"cursor": "YmVmb3JlOi0x"}, "cursor", "next_cursor"),
    ({"cursor": "\u00e9"}, "cursor", "next_cursor"),
    ({"cursor": "W10"}, "cursor", "next_cursor"),
    ({"stat": "failed"}, "stat", "did you mean 'state'"),
    ({"tag": "\x00"}, "tag", "cannot hold the character U+0000"),
    ({"method": "pme"}, "method", "expected one of pmae, mae"),
    ({"sort": "lost"}, "sort", "expected one of created, name, top1, finished, priority, metric"),
]


def test_a_bad_filter_is_named(api: LiveApi, subtests: pytest.Subtests) -> None:
    for params, field, valid in BAD_FILTERS:
        with subtests.test(params=params):
            problem = api.client.get("/runs", params=params)
            assert problem.status_code == 422
            (error,) = problem.json()["errors"]
            assert error["pointer"] == field
            assert valid in error["message"]


def test_a_run_of_a_method_that_is_gone_is_shown_and_not_repeated(api: LiveApi) -> None:
    spec = resolve(named("old")).model_copy(update={"method": "gone"})
    row = api.add_run(named("old"), method="gone", state="failed")
    with api.sessions.begin() as session:
        session.execute(update(RunRow).values(spec=spec.model_dump(mode="json")))
    assert names(api) == [row.name]
    with PmaeClient(api.url) as client:
        assert client.run(row.id).spec == spec
    again = problem(api.client.post(f"/runs/{row.id}/rerun"), 409)
    assert "'gone' is not installed; expected one of pmae, mae" in str(again.detail)


def test_a_run_shows_its_evaluations_and_figures(api: LiveApi) -> None:
    row = api.add_run(
        state="running", progress={"stage": "pretrain", "done": 3, "total": 9}, top1=0.9
    )
    values = {
        "run_number": row.number,
        "key": "linear/encoder",
        "protocol": "linear",
        "features": "encoder",
        "step": 9,
        "epoch": 2.0,
        "split": "test",
        "top1": 0.9,
        "details": {"classes": 10},
    }
    with api.sessions.begin() as session:
        session.execute(insert(EvaluationRow).values(values))
    run = Run.model_validate_json(api.client.get(f"/runs/{row.id}").content)
    assert run.progress.done == 3
    assert run.top1 == 0.9
    assert [evaluation.key for evaluation in run.evaluations] == ["linear/encoder"]
    assert run.created_at.utcoffset() is not None


def test_a_queued_run_says_that_no_worker_is_up(api: LiveApi) -> None:
    row = api.add_run()
    assert "no worker is up" in api.client.get(f"/runs/{row.id}").json()["reason"]
    api.add_worker()
    assert api.client.get(f"/runs/{row.id}").json()["reason"] == "waits to be picked up"


def test_cancelling_a_queued_run_ends_it(api: LiveApi) -> None:
    run_id = api.submit()
    response = api.client.post(f"/runs/{run_id}/cancel")
    assert response.status_code == 202
    assert Run.model_validate_json(response.content).state == "cancelled"
    again = api.client.post(f"/runs/{run_id}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "transition_refused")


def test_cancelling_a_running_run_asks_its_worker(api: LiveApi) -> None:
    run_id = api.submit()
    with api.sessions.begin() as session:
        assert run_states.claim(session, worker="w", lease_seconds=60)
    for _ in range(2):
        run = Run.model_validate_json(api.client.post(f"/runs/{run_id}/cancel").content)
        assert (run.state, run.cancel_requested) == ("running", True)


def test_history_holds_every_change_of_state_with_who_and_why(api: LiveApi) -> None:
    run_id = api.submit()

    def claim(worker: str, lease_seconds: float = 60) -> run_states.Claim:
        with api.sessions.begin() as session:
            found = run_states.claim(session, worker=worker, lease_seconds=lease_seconds)
        assert found is not None
        return found

    drained = claim("w1")
    with api.sessions.begin() as session:
        run_states.requeue(session, drained, reason="w1 drains", counts_attempt=False)
    claim("w2", lease_seconds=-1)
    with api.sessions.begin() as session:
        run_states.expire_leases(session)
    failed = claim("w3")
    with api.sessions.begin() as session:
        run_states.finish(session, failed, state="failed", reason="no luck", error={})
    assert api.client.post(f"/runs/{run_id}/resume").status_code == 202
    asked = claim("w4")
    assert api.client.post(f"/runs/{run_id}/cancel").status_code == 202
    with api.sessions.begin() as session:
        run_states.finish(session, asked, state="cancelled", reason="its trainer has stopped")

    history = History.model_validate_json(api.client.get(f"/runs/{run_id}/history").content)
    told = [(e.type, e.actor, e.data.get("to"), e.data.get("lease_number")) for e in history.items]
    assert told == [
        ("state", "api", "queued", 0),
        ("state", "w1", "running", 1),
        ("state", "w1", "queued", 1),
        ("state", "w2", "running", 2),
        ("state", "reconciler", "queued", 2),
        ("state", "w3", "running", 3),
        ("state", "w3", "failed", 3),
        ("state", "api", "queued", 3),
        ("state", "w4", "running", 4),
        ("cancel", "api", None, None),
        ("state", "w4", "cancelled", 4),
    ]
    assert [entry.message for entry in history.items if entry.actor == "w1"] == [
        "started by w1",
        "w1 drains",
    ]
    moments = [entry.at for entry in history.items]
    assert moments == sorted(moments)
    assert all(entry.message for entry in history.items)


def test_the_client_reads_a_long_history_to_its_end(api: LiveApi) -> None:
    row = api.add_run()
    entry = {"run_number": row.number, "at": 1e9, "type": "stage", "actor": "w", "data": {}}
    with api.sessions.begin() as session:
        rows = [entry | {"message": str(number)} for number in range(2 * HISTORY_PAGE)]
        session.execute(insert(RunEventRow), rows)
    with PmaeClient(api.url) as client:
        told = [item.message for item in client.history(row.id).items]
    assert told == ["submitted", *(str(number) for number in range(2 * HISTORY_PAGE))]


def test_history_tells_who_did_what(api: LiveApi) -> None:
    run_id = api.submit()
    api.client.post(f"/runs/{run_id}/cancel")
    history = History.model_validate_json(api.client.get(f"/runs/{run_id}/history").content)
    assert [entry.data["to"] for entry in history.items] == ["queued", "cancelled"]
    later = api.client.get(f"/runs/{run_id}/history", params={"after": history.items[0].id})
    assert History.model_validate_json(later.content).items == history.items[1:]


PATHS = ["", "/metrics", "/log", "/history", "/events", "/checkpoints", "/components"]


def test_an_unknown_run_is_not_found(api: LiveApi, subtests: pytest.Subtests) -> None:
    for path in PATHS:
        with subtests.test(path=path):
            response = api.client.get(f"/runs/{'0' * 12}{path}")
            assert (response.status_code, response.json()["code"]) == (404, "run_not_found")
            response = api.client.get(f"/runs/..%2f..%2fetc{path}")
            assert response.status_code == 404
    response = api.client.get("/runs/Not-An-Id")
    assert response.json()["errors"][0]["pointer"] == "run_id"
    assert api.client.post(f"/runs/{'0' * 12}/cancel").status_code == 404
