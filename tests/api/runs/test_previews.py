"""What would be queued, and what it would cost."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert

from api.db.tables import MetricRow
from pmae.schema.runs import Estimate, SubmitPreview
from pmae.spec import ExperimentSpec, resolve
from pmae.spec.estimate import num_parameters, training_memory
from tests.api.live import DIGITS, LiveApi


def ask(api: LiveApi, body: dict[str, Any] | None = None, **params: str) -> SubmitPreview:
    response = api.client.post("/runs", json=body, params=params | {"validate_only": "true"})
    assert response.status_code == 200, response.text
    return SubmitPreview.model_validate_json(response.content)


def costs(api: LiveApi, body: dict[str, Any]) -> Estimate:
    found = ask(api, body).estimate
    assert found is not None
    return found


def add_epochs(api: LiveApi, number: int, seconds: list[float]) -> None:
    rows: list[dict[str, Any]] = []
    time = 1e9
    for epoch, span in enumerate(seconds, 1):
        time += span
        values = {"step": 10 * epoch, "epoch": float(epoch), "time": time, "value": 1.0}
        rows.append({"run_number": number, "name": "train_loss"} | values)
    with api.sessions.begin() as session:
        session.execute(insert(MetricRow), rows)


def test_nothing_is_queued(api: LiveApi) -> None:
    headers = {"Idempotency-Key": "k"}
    params = {"validate_only": "true"}
    first = api.client.post("/runs", json=DIGITS, params=params, headers=headers)
    assert first.status_code == 200
    assert "location" not in first.headers
    assert api.count_runs() == 0
    assert api.client.post("/runs", json=DIGITS, headers=headers).status_code == 202


def test_the_spec_is_resolved_and_costs_are_told(api: LiveApi) -> None:
    found = ask(api, {"epochs": 7}, preset="quickstart")
    spec, estimate = found.spec, found.estimate
    assert isinstance(spec, ExperimentSpec)
    assert estimate is not None
    assert estimate.steps is not None
    assert spec == resolve(spec)
    assert spec.epochs == 7
    assert estimate.parameters.encoder + estimate.parameters.decoder == num_parameters(spec, 1)
    assert estimate.memory_bytes.total == training_memory(spec, 1).total
    assert estimate.train_images == 1259
    assert estimate.steps == 7 * (1259 // spec.batch_size)
    assert estimate.images_seen == estimate.steps * spec.batch_size
    assert estimate.checkpoint_bytes > 12 * num_parameters(spec, 1)
    assert estimate.measured is None


def test_what_only_files_tell_is_null(api: LiveApi) -> None:
    estimate = costs(api, {"dataset": {"name": "folder:birds"}})
    assert (estimate.channels, estimate.train_images, estimate.steps) == (3, None, None)


def test_what_might_keep_it_from_running_is_told(api: LiveApi) -> None:
    assert ask(api, DIGITS).warnings == ["no worker is up"]
    api.add_worker()
    assert ask(api, DIGITS).warnings == []
    probe = {"protocol": "knn", "dataset": {"name": "folder:bees"}}
    body = {"dataset": {"name": "folder:birds"}, "devices": 2, "evaluations": [probe]}
    birds, bees, devices = ask(api, body).warnings
    assert birds.startswith("the data set folder:birds is not on the service's machine: ")
    assert bees.startswith("the data set folder:bees is not")
    assert devices.startswith("no worker that is up takes pretrain runs on 2 devices")


def test_a_batch_larger_than_the_images_is_said_to_be_fitted(api: LiveApi) -> None:
    api.add_worker()
    body = {"dataset": {"name": "digits", "max_train_images": 100}}
    (warning,) = ask(api, body).warnings
    assert warning.startswith("batch_size: 512 is more than the 100 training images")


def test_a_bad_spec_is_refused_as_it_is_when_submitted(api: LiveApi) -> None:
    params = {"validate_only": "true"}
    response = api.client.post("/runs", json=DIGITS | {"epochs": 0}, params=params)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_spec")


def test_speed_is_that_of_the_newest_like_run(api: LiveApi) -> None:
    spec = ExperimentSpec.model_validate(DIGITS | {"epochs": 5})
    older = api.add_run(spec, state="succeeded")
    add_epochs(api, older.number, [1.0] * 4)
    like = api.add_run(spec, state="succeeded")
    add_epochs(api, like.number, [3.0, 3.0, 3.1, 500.0, 3.0, 2.9])
    for other in (
        api.add_run(spec, state="running"),
        api.add_run(spec.model_copy(update={"batch_size": 32}), state="succeeded"),
    ):
        add_epochs(api, other.number, [0.1] * 4)
    api.add_run(spec, state="succeeded")  # without a point to measure
    add_epochs(api, api.add_run(spec, state="succeeded").number, [60.0, 60.0])  # with too few
    measured = costs(api, DIGITS | {"epochs": 40, "seed": 3, "name": "x"}).measured
    assert measured is not None
    assert measured.run_id == like.id
    assert round(measured.epochs_per_minute, 6) == 20.0, "a pause does not count"
    assert round(measured.pretraining_seconds, 6) == 120.0
    assert costs(api, DIGITS | {"method": "mae"}).measured is None


def test_an_evaluation_is_looked_at_too(api: LiveApi) -> None:
    row = api.add_run(state="succeeded")
    api.add_checkpoint(row, {"model.safetensors": b"x"}, step=640)
    body = {
        "kind": "evaluate",
        "checkpoint": f"{row.id}/step-00000640",
        "evaluations": [{"protocol": "knn"}],
    }
    found = ask(api, body)
    assert (found.spec.kind, found.estimate) == ("evaluate", None)
    assert api.count_runs() == 1
    params = {"validate_only": "true"}
    gone = body | {"checkpoint": f"{row.id}/step-00000641"}
    response = api.client.post("/runs", json=gone, params=params)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/checkpoint")
