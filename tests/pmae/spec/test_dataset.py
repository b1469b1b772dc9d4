"""The data set of a spec: what a stored one keeps."""

from __future__ import annotations

import pytest

from pmae.spec import ExperimentSpec


def _spec(version: int) -> ExperimentSpec:
    transfer = {"protocol": "knn", "dataset": {"name": "digits"}}
    written = {"protocol": "knn", "dataset": {"name": "digits", "std_floor": 0.3}}
    return ExperimentSpec.model_validate(
        {
            "version": version,
            "dataset": {"name": "digits"},
            "evaluations": [{"protocol": "knn"}, transfer, written],
        }
    )


@pytest.mark.parametrize(("version", "floor"), [(1, 0.02), (2, None)])
def test_a_stored_spec_keeps_the_floor_that_it_meant(version: int, floor: float | None) -> None:
    spec = _spec(version)
    assert spec.dataset.std_floor == floor
    own, transfer, written = (evaluation.dataset for evaluation in spec.evaluations)
    assert own is None
    assert transfer is not None
    assert transfer.std_floor == floor
    assert written is not None
    assert written.std_floor == 0.3
