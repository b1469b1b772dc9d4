"""Which losses a spec can ask for."""

from __future__ import annotations

from typing import Any

import pytest

from pmae.errors import SpecError
from pmae.spec import ExperimentSpec, LossSpec, resolve


def _spec(method: str, **fields: Any) -> ExperimentSpec:
    return ExperimentSpec.model_validate(
        {"method": method, "dataset": {"name": "digits"}, **fields}
    )


@pytest.mark.parametrize(
    ("method", "asked", "expected"),
    [
        ("pmae", {}, LossSpec(scale="none")),
        ("pmae", {"scale": "masked_variance"}, LossSpec(scale="masked_variance")),
        ("pmae", {"norm_pix_loss": False}, LossSpec(scale="none")),
        ("mae", {}, LossSpec(norm_pix_loss=False)),
        ("mae", {"norm_pix_loss": True}, LossSpec(norm_pix_loss=True)),
        ("mae", {"scale": "none"}, LossSpec(norm_pix_loss=False)),
    ],
)
def test_every_method_has_its_own(method: str, asked: dict[str, Any], expected: LossSpec) -> None:
    spec = resolve(_spec(method, loss=asked))
    assert spec.loss == expected
    assert resolve(spec) == spec


@pytest.mark.parametrize(
    ("method", "loss", "field", "valid"),
    [
        ("pmae", {"norm_pix_loss": True}, "norm_pix_loss", "set loss.scale to masked_variance"),
        ("mae", {"scale": "masked_variance"}, "scale", "set loss.norm_pix_loss to true"),
    ],
)
def test_the_other_methods_is_refused(
    method: str, loss: dict[str, Any], field: str, valid: str
) -> None:
    with pytest.raises(SpecError, match=f"loss.{field}: .*{valid}") as caught:
        resolve(_spec(method, loss=loss))
    assert caught.value.field == ("loss", field)


@pytest.mark.parametrize(
    ("method", "expected"),
    [("pmae", LossSpec(scale="none")), ("mae", LossSpec(norm_pix_loss=False))],
)
def test_a_spec_of_version_1_keeps_its_loss(method: str, expected: LossSpec) -> None:
    assert _spec(method, version=1).loss == expected
