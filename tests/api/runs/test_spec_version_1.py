"""Runs that an older version stored: shown, resumed and repeated with what their spec meant."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from api.db import run_states
from api.db.tables import RunRow
from pmae.schema import Run
from pmae.schema.runs import SubmitPreview
from pmae.spec import ExperimentSpec, resolve
from tests.api.live import LiveApi

_NEW = ("count", "ratio_of", "predict")


def _stored_then(fields: dict[str, Any]) -> dict[str, Any]:
    """A spec as version 1 stored it, resolved: without the fields that it did not have."""
    spec = resolve(ExperimentSpec.model_validate({"version": 1, **fields}))
    stored = spec.model_dump(mode="json") | {"version": 1}
    masking = {name: value for name, value in stored["masking"].items() if name not in _NEW}
    return stored | {"masking": masking}


COMPONENTS = {"dataset": {"name": "digits"}}
OBJECTS = {
    "method": "mae",
    "dataset": {"name": "clevr"},
    "masking": {"strategy": "segmentation", "mode": "random"},
}


def _old_run(api: LiveApi, fields: dict[str, Any]) -> str:
    row = api.add_run(ExperimentSpec.model_validate(fields))
    with api.sessions.begin() as session:
        session.execute(update(RunRow).where(RunRow.id == row.id).values(spec=_stored_then(fields)))
    return row.id


def _spec(api: LiveApi, run_id: str) -> dict[str, Any]:
    with api.sessions() as session:
        return dict(session.scalars(select(RunRow.spec).where(RunRow.id == run_id)).one())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (COMPONENTS, {"count": "nearest", "ratio_of": "variance", "predict": None}),
        (OBJECTS, {"count": None, "ratio_of": None, "predict": "object"}),
    ],
    ids=["components", "objects"],
)
def test_its_rules_are_shown_and_written_out(
    api: LiveApi, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    run_id = _old_run(api, fields)
    shown = Run.model_validate_json(api.client.get(f"/runs/{run_id}").content).spec
    assert isinstance(shown, ExperimentSpec)
    assert shown.version == 2
    assert shown.masking.model_dump(include=set(expected)) == expected

    again = Run.model_validate_json(api.client.post(f"/runs/{run_id}/rerun").content)
    stored = _spec(api, again.id)
    assert stored["version"] == 2
    assert {name: stored["masking"][name] for name in expected} == expected

    assert api.client.post(f"/runs/{run_id}/cancel").status_code == 202
    assert api.client.post(f"/runs/{run_id}/resume").status_code == 202
    assert _spec(api, run_id) == stored


def test_a_later_run_of_the_same_rule_is_expected_to_be_as_fast(api: LiveApi) -> None:
    fields = {"dataset": {"name": "digits", "std_floor": 0.1}, "loss": {"scale": "none"}}
    run_id = _old_run(api, fields)
    with api.sessions.begin() as session:
        claim = run_states.claim(session, worker="w", lease_seconds=60)
        assert claim is not None
        run_states.finish(session, claim, state="succeeded", reason="done")
    with api.sessions() as session:
        number = session.scalars(select(RunRow.number)).one()
    api.add_metrics(number, "train_loss", [1.0] * 10)

    def measured(count: str) -> str | None:
        monitor = {"online_probe": "raw", "knn": False, "spectrum": False}
        body = {**fields, "masking": {"count": count}, "precision": "fp32", "monitor": monitor}
        answer = api.client.post("/runs", json=body, params={"validate_only": True})
        estimate = SubmitPreview.model_validate_json(answer.content).estimate
        assert estimate is not None
        return estimate.measured.run_id if estimate.measured else None

    assert measured("nearest") == run_id
    assert measured("reference") is None
