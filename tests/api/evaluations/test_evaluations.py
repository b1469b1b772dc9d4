"""Runs that evaluate a checkpoint of another run: submitting them, their list, and deletions."""

from __future__ import annotations

import shutil
import threading
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from api.db import run_states
from api.db.tables import EvaluationRow, RunRow
from pmae.client import ApiError, PmaeClient
from pmae.presets import get_preset
from pmae.schema import Run
from pmae.schema.evaluations import EvaluationRunPage
from pmae.spec import EvaluateSpec, EvaluationRequest, KnnSpec, LinearProbeSpec, resolve
from tests.api.live import LiveApi, problem

KNN = {"protocol": "knn", "k": [3]}
BODY: dict[str, Any] = {"evaluations": [KNN]}


@pytest.fixture
def parent(api: LiveApi) -> RunRow:
    """A pretraining that has ended, with a kept checkpoint at step 640."""
    run = api.add_run(state="succeeded")
    api.add_checkpoint(run, {"model.safetensors": b"weights"})
    return run


def evaluate(api: LiveApi, parent: RunRow, body: dict[str, Any] | None = None) -> Run:
    response = api.client.post(f"/checkpoints/{parent.id}-00000640/evaluations", json=body or BODY)
    assert response.status_code == 202, response.text
    run = Run.model_validate_json(response.content)
    assert response.headers["location"] == f"/api/v1/runs/{run.id}"
    return run


def test_a_checkpoint_is_evaluated_by_a_run_with_a_resolved_spec(
    api: LiveApi, parent: RunRow
) -> None:
    evaluations = [{"layers": "all", "dataset": {"name": "digits"}}, KNN]
    run = evaluate(api, parent, {"evaluations": evaluations, "seed": 7, "tags": ["late"]})
    spec = run.spec
    assert isinstance(spec, EvaluateSpec)
    assert (run.kind, run.state, run.parent_id) == ("evaluate", "queued", parent.id)
    assert (run.method, run.dataset, run.tags) == (parent.method, parent.dataset, ["late"])
    assert run.name == f"linear, knn of {parent.name}"
    assert spec.checkpoint == f"{parent.id}/step-00000640"
    assert (spec.seed, spec.threads) == (7, 1)
    linear, knn = spec.evaluations
    assert isinstance(linear, LinearProbeSpec)
    assert isinstance(knn, KnnSpec)
    assert linear.dataset is not None
    assert (linear.dataset.resolution, linear.standardize, knn.standardize) == (8, True, False)
    assert run.reason == "waits: no worker is up" or run.reason is None
    got = Run.model_validate_json(api.client.get(f"/runs/{run.id}").content)
    assert got.spec == spec
    (queued,) = api.client.get("/queue").json()["items"]
    assert (queued["run_id"], queued["kind"]) == (run.id, "evaluate")


@pytest.mark.parametrize("separator", ["/step-", "-"])
def test_the_same_by_posting_a_spec(api: LiveApi, parent: RunRow, separator: str) -> None:
    body = BODY | {"kind": "evaluate", "checkpoint": f"{parent.id}{separator}00000640"}
    run = Run.model_validate_json(api.client.post("/runs", json=body).content)
    assert run.spec == evaluate(api, parent).spec
    again = Run.model_validate_json(api.client.post(f"/runs/{run.id}/rerun").content)
    assert (again.spec, again.rerun_of, again.parent_id) == (run.spec, run.id, parent.id)


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"evaluations": []}, "/evaluations"),
        ({"evaluations": [KNN] * 17}, "/evaluations"),
        ({"evaluations": [{"protocol": "svm"}]}, "/evaluations/0"),
        ({"evaluations": [KNN, KNN | {"at_epochs": [1]}]}, "/evaluations/1/at_epochs"),
        ({"evaluations": [{"dataset": {"name": "cifar10"}}]}, "/evaluations/0/dataset/name"),
        (
            {"evaluations": [{"dataset": {"name": "digits", "resolution": 32}}]},
            "/evaluations/0/dataset/resolution",
        ),
        ({"epochs": 3}, "/epochs"),
        ({"tags": ["a\x00b"]}, "/tags/0"),
    ],
)
@pytest.mark.parametrize("how", ["checkpoint", "run"])
def test_what_cannot_be_measured_is_refused_at_its_field(
    api: LiveApi, parent: RunRow, how: str, change: dict[str, Any], at: str
) -> None:
    name = f"{parent.id}-00000640"
    if how == "checkpoint":
        response = api.client.post(f"/checkpoints/{name}/evaluations", json=BODY | change)
    else:
        body = BODY | change | {"kind": "evaluate", "checkpoint": name}
        response = api.client.post("/runs", json=body)
    found = problem(response, 422)
    assert [field.pointer for field in found.errors] == [at]
    if at == "/epochs":
        assert "evaluations" in found.errors[0].message, "it says what would be valid"
    assert api.count_runs() == 1


@pytest.mark.parametrize(
    ("checkpoint", "code"),
    [("latest", "invalid_spec"), ("0123456789ab/step-00000640", "checkpoint_not_found")],
)
def test_a_spec_without_a_checkpoint_that_is_there(
    api: LiveApi, checkpoint: str, code: str
) -> None:
    body = BODY | {"kind": "evaluate", "checkpoint": checkpoint}
    found = problem(api.client.post("/runs", json=body), 422)
    assert (found.code, [field.pointer for field in found.errors]) == (code, ["/checkpoint"])


def test_an_unknown_kind_names_the_valid_ones(api: LiveApi) -> None:
    found = problem(api.client.post("/runs", json=BODY | {"kind": "evaluation"}), 422)
    (field,) = found.errors
    assert field.pointer == "/kind"
    assert "did you mean 'evaluate'?" in field.message


def test_checkpoints_that_cannot_be_evaluated(api: LiveApi, parent: RunRow) -> None:
    api.add_checkpoint(parent, {"model.safetensors": b"x"}, step=700, kind="latest")
    removed = api.add_checkpoint(parent, {"model.safetensors": b"x"}, step=320)
    shutil.rmtree(removed)
    for step, status, code in (
        (700, 409, "rolling_checkpoint"),
        (320, 404, "checkpoint_removed"),
        (1, 404, "checkpoint_not_found"),
    ):
        path = f"/checkpoints/{parent.id}-{step:08d}/evaluations"
        assert problem(api.client.post(path, json=BODY), status).code == code


def test_runs_that_evaluate_are_listed_under_their_parent(api: LiveApi, parent: RunRow) -> None:
    first = evaluate(api, parent)
    second = evaluate(api, parent, BODY | {"name": "again"})
    with api.sessions.begin() as session:
        number = session.scalar(select(RunRow.number).where(RunRow.id == first.id))
        figures = {"step": 640, "epoch": 64.0, "split": "test", "top1": 0.9, "details": {}}
        session.add(
            EvaluationRow(
                run_number=number, key="knn/encoder", protocol="knn", features="encoder", **figures
            )
        )
    with PmaeClient(api.url) as client:
        found = list(client.evaluation_runs(parent.id))
        assert [run.id for run in found] == [second.id, first.id]
        assert [run.name for run in found] == ["again", f"knn of {parent.name}"]
        assert [[each.top1 for each in run.evaluations] for run in found] == [[], [0.9]]
        assert found[0].checkpoint == f"{parent.id}/step-00000640"
        assert list(client.evaluation_runs(first.id)) == []
        assert [run.id for run in client.runs(kind="evaluate").items] == [second.id, first.id]
        assert [run.id for run in client.runs(kind="pretrain").items] == [parent.id]
    assert problem(api.client.get("/runs/0123456789ab/evaluations"), 404).code == "run_not_found"
    assert problem(api.client.get(f"/runs/{first.id}/components"), 404).code == "no_basis"


def test_pages_of_evaluations_join_while_runs_are_added(api: LiveApi, parent: RunRow) -> None:
    other = api.add_run(state="succeeded")
    api.add_checkpoint(other, {"model.safetensors": b"weights"})
    evaluate(api, other)
    ids = [evaluate(api, parent).id for _ in range(5)][::-1]
    path = f"/runs/{parent.id}/evaluations"
    first = EvaluationRunPage.model_validate_json(api.client.get(path, params={"limit": 2}).content)
    assert [run.id for run in first.items] == ids[:2]
    newer = evaluate(api, parent).id
    assert api.client.post(f"/runs/{ids[1]}/cancel").status_code == 202
    assert api.client.delete(f"/runs/{ids[1]}").status_code == 204
    params = {"limit": "2", "cursor": first.next_cursor or ""}
    second = EvaluationRunPage.model_validate_json(api.client.get(path, params=params).content)
    assert [run.id for run in second.items] == ids[2:4]
    with PmaeClient(api.url) as client:
        found = [run.id for run in client.evaluation_runs(parent.id, page_size=2)]
    assert found == [newer, ids[0], *ids[2:]]


def test_cursors_and_limits_that_are_none(
    api: LiveApi, parent: RunRow, subtests: pytest.Subtests
) -> None:
    for _ in range(2):
        evaluate(api, parent)
    path = f"/runs/{parent.id}/evaluations"
    others = api.client.get("/runs", params={"limit": 1}).json()["next_cursor"]
    for name, value in (
        ("cursor", "x"),
        ("cursor", others),
        ("limit", "0"),
        ("limit", "501"),
        ("state", "queued"),
    ):
        with subtests.test(name=name, value=value):
            found = problem(api.client.get(path, params={name: value}), 422)
            assert [field.pointer for field in found.errors] == [name]


def test_the_client_sends_a_request(api: LiveApi, parent: RunRow) -> None:
    request = EvaluationRequest(evaluations=(KnnSpec(k=(3,), features="mean"),))
    with PmaeClient(api.url) as client:
        run = client.evaluate(f"{parent.id}-00000640", request, priority=3)
        assert isinstance(run.spec, EvaluateSpec)
        assert (run.priority, run.spec.evaluations[0].features) == (3, "mean")
        assert client.submit(run.spec).spec == run.spec
        with pytest.raises(ApiError, match="at_epochs"):
            client.evaluate(f"{parent.id}-00000640", {"evaluations": [KNN | {"at_epochs": [2]}]})


def _set(api: LiveApi, run_id: str, state: str) -> None:
    with api.sessions.begin() as session:
        session.execute(update(RunRow).where(RunRow.id == run_id).values(state=state))


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_parent_stays_while_it_is_evaluated(api: LiveApi, parent: RunRow, state: str) -> None:
    run = evaluate(api, parent)
    _set(api, run.id, state)
    refused = problem(api.client.delete(f"/runs/{parent.id}"), 409)
    assert run.id in refused.detail
    _set(api, run.id, "failed")
    assert api.client.delete(f"/runs/{parent.id}").status_code == 204
    left = Run.model_validate_json(api.client.get(f"/runs/{run.id}").content)
    assert left.parent_id == parent.id, "what was measured stays"
    for verb in ("resume", "rerun"):
        refused = problem(api.client.post(f"/runs/{run.id}/{verb}"), 409)
        assert refused.code == "checkpoint_not_found"
    path = f"/checkpoints/{parent.id}-00000640/evaluations"
    assert problem(api.client.post(path, json=BODY), 404).code == "checkpoint_not_found"


def test_a_deletion_waits_for_an_evaluation_that_is_being_queued(
    api: LiveApi, parent: RunRow
) -> None:
    answers: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: answers.append(api.client.delete(f"/runs/{parent.id}"))
    )
    spec = EvaluateSpec.model_validate(BODY | {"checkpoint": f"{parent.id}-00000640"})
    with api.sessions.begin() as session:
        held = run_states.hold(session, parent.id)
        assert held is not None
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive(), "it waits"
        row = run_states.submit(session, spec=spec, parent=held)
    thread.join(timeout=60)
    assert row.id in problem(answers[0], 409).detail


def test_a_preset_with_the_kind_evaluate_is_refused(api: LiveApi) -> None:
    params = {"preset": "quickstart"}
    found = problem(api.client.post("/runs", params=params, json={"kind": "evaluate"}), 422)
    assert "/checkpoint" in [field.pointer for field in found.errors]
    assert resolve(get_preset("quickstart").spec).kind == "pretrain"
