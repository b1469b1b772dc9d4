"""Which maskings a spec can ask for."""

from __future__ import annotations

from typing import Any

import pytest

from pmae.errors import SpecError
from pmae.spec import ExperimentSpec, MaskingSpec, resolve


def _resolved(method: str, dataset: str, **masking: Any) -> MaskingSpec:
    spec = resolve(
        ExperimentSpec.model_validate(
            {"method": method, "dataset": {"name": dataset}, "masking": masking}
        )
    )
    assert resolve(spec) == spec
    again = ExperimentSpec.model_validate_json(spec.model_dump_json())
    assert resolve(again) == spec
    return spec.masking


@pytest.mark.parametrize(
    ("method", "asked", "expected"),
    [
        ("pmae", {}, ("random", 0.2, "batch", None)),
        ("pmae", {"strategy": "top"}, ("top", 0.2, "batch", None)),
        (
            "pmae",
            {"strategy": "bottom", "ratio": (0.1, 0.3), "scope": "image"},
            ("bottom", (0.1, 0.3), "image", None),
        ),
        ("pmae", {"strategy": "block", "scope": "image"}, ("block", 0.2, "image", None)),
        ("mae", {}, ("random", 0.75, "image", None)),
        ("mae", {"strategy": "segmentation"}, ("segmentation", None, "image", "complete")),
        (
            "mae",
            {"strategy": "segmentation", "mode": "partial"},
            ("segmentation", 0.75, "image", "partial"),
        ),
    ],
)
def test_defaults_are_written_out(
    method: str, asked: dict[str, Any], expected: tuple[object, ...]
) -> None:
    masking = _resolved(method, "clevr", **asked)
    assert (masking.strategy, masking.ratio, masking.scope, masking.mode) == expected


@pytest.mark.parametrize(
    ("method", "dataset", "masking", "field", "valid"),
    [
        ("mae", "clevr", {"strategy": "top"}, "strategy", "valid for it are random, segmentation"),
        ("pmae", "clevr", {"strategy": "segmentation"}, "strategy", "random, top, bottom, block"),
        ("mae", "digits", {"strategy": "segmentation"}, "strategy", "digits has none; valid is cl"),
        ("pmae", "digits", {"mode": "partial"}, "mode", "only segmentation has modes"),
        ("pmae", "digits", {"strategy": "top", "scope": "image"}, "scope", "a range of ratios"),
        (
            "pmae",
            "digits",
            {"strategy": "bottom", "scope": "image", "ratio": (0.2, 0.2)},
            "scope",
            "valid is 'batch'",
        ),
        ("mae", "digits", {"scope": "batch"}, "scope", "valid is 'image'"),
        (
            "mae",
            "clevr",
            {"strategy": "segmentation", "scope": "batch"},
            "scope",
            "valid is 'image'",
        ),
        (
            "mae",
            "clevr",
            {"strategy": "segmentation", "ratio": 0.5},
            "ratio",
            "set masking.mode to partial",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    method: str, dataset: str, masking: dict[str, Any], field: str, valid: str
) -> None:
    with pytest.raises(SpecError, match=valid) as caught:
        _resolved(method, dataset, **masking)
    assert caught.value.field == ("masking", field)


def test_a_spec_stored_before_there_were_strategies_still_counts() -> None:
    stored = {"strategy": "random", "ratio": 0.2, "scope": "batch"}
    spec = ExperimentSpec.model_validate(
        {"version": 1, "dataset": {"name": "digits"}, "masking": stored}
    )
    assert spec.version == 2
    assert resolve(spec).masking == MaskingSpec.model_validate(stored | {"count": "nearest"})


@pytest.mark.parametrize("field", ["accumulate_steps", "devices"])
def test_masks_that_follow_objects_need_whole_batches(field: str) -> None:
    fields = {
        "method": "mae",
        "dataset": {"name": "clevr"},
        "masking": {"strategy": "segmentation"},
        field: 2,
    }
    with pytest.raises(SpecError, match="cannot be cut into parts; valid is 1") as caught:
        resolve(ExperimentSpec.model_validate(fields))
    assert caught.value.field == (field,)
