"""Which maskings a spec can ask for."""

from __future__ import annotations

from typing import Any

import pytest

from pmae.errors import SpecError
from pmae.spec import ExperimentSpec, MaskingSpec, resolve
from pmae.spec.parts.masking import masking_like


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
            {"strategy": "segmentation", "mode": "random"},
            ("segmentation", 0.75, "image", "random"),
        ),
        (
            "mae",
            {"strategy": "segmentation", "mode": "random", "predict": "object"},
            ("segmentation", None, "image", "random"),
        ),
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
        ("mae", "clevr", {"strategy": "top"}, "strategy", "expected one of random, segmentation"),
        ("pmae", "clevr", {"strategy": "segmentation"}, "strategy", "random, top, bottom, block"),
        ("mae", "digits", {"strategy": "segmentation"}, "strategy", "digits has none; expected cl"),
        (
            "pmae",
            "digits",
            {"mode": "partial"},
            "mode",
            "it belongs to segmentation, not to random",
        ),
        ("pmae", "digits", {"strategy": "top", "scope": "image"}, "scope", "a range of ratios"),
        (
            "pmae",
            "digits",
            {"strategy": "bottom", "scope": "image", "ratio": (0.2, 0.2)},
            "scope",
            "expected 'batch'",
        ),
        ("pmae", "digits", {"predict": "object"}, "predict", "it belongs to segmentation"),
        ("mae", "clevr", {"predict": "object"}, "predict", "it belongs to segmentation"),
        ("mae", "digits", {"count": "nearest"}, "count", "MAE masks patches; leave it out"),
        ("mae", "clevr", {"strategy": "segmentation", "count": "nearest"}, "count", "leave it out"),
        ("mae", "digits", {"ratio_of": "variance"}, "ratio_of", "MAE masks patches; leave it out"),
        (
            "pmae",
            "digits",
            {"ratio_of": "components", "count": "nearest"},
            "count",
            "set masking.ratio_of to variance",
        ),
        ("mae", "digits", {"scope": "batch"}, "scope", "expected 'image'"),
        (
            "mae",
            "clevr",
            {"strategy": "segmentation", "scope": "batch"},
            "scope",
            "expected 'image'",
        ),
        (
            "mae",
            "clevr",
            {"strategy": "segmentation", "ratio": 0.5},
            "ratio",
            "set masking.mode to partial or random",
        ),
        (
            "mae",
            "clevr",
            {"strategy": "segmentation", "predict": "object", "mode": "random", "ratio": 0.5},
            "ratio",
            "set masking.mode to partial$",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    method: str, dataset: str, masking: dict[str, Any], field: str, valid: str
) -> None:
    with pytest.raises(SpecError, match=valid) as caught:
        _resolved(method, dataset, **masking)
    assert caught.value.field == ("masking", field)


def test_the_rules_of_components_and_of_objects_are_written_out() -> None:
    masking = _resolved("pmae", "digits")
    assert (masking.ratio_of, masking.count) == ("variance", "reference")
    masking = _resolved("pmae", "digits", ratio_of="components")
    assert (masking.ratio_of, masking.count) == ("components", None)
    masking = _resolved("mae", "clevr", strategy="segmentation")
    assert (masking.predict, masking.ratio_of, masking.count) == ("background", None, None)


def test_a_masking_is_filled_in_by_the_rules_of_the_run() -> None:
    def like(method: str, trained: dict[str, Any], **asked: Any) -> MaskingSpec:
        filled = masking_like(
            MaskingSpec.model_validate(asked), _resolved(method, "clevr", **trained)
        )
        given = {name: value for name, value in filled if name in MaskingSpec.model_fields}
        return _resolved(method, "clevr", **{k: v for k, v in given.items() if v is not None})

    nearest, number = {"count": "nearest"}, {"ratio_of": "components"}
    assert like("pmae", nearest, strategy="top").count == "nearest"
    assert like("pmae", nearest, count="reference").count == "reference"
    assert like("pmae", nearest, ratio_of="components").count is None
    assert like("pmae", number, strategy="top").ratio_of == "components"
    masking = like("pmae", number, count="nearest")
    assert (masking.ratio_of, masking.count) == ("variance", "nearest")
    masking = like("pmae", number, ratio_of="variance")
    assert (masking.ratio_of, masking.count) == ("variance", "reference")
    hidden = {"strategy": "segmentation", "predict": "object"}
    masking = like("mae", hidden, strategy="segmentation", mode="partial")
    assert (masking.predict, masking.ratio) == ("object", 0.75)
    assert like("mae", hidden, ratio=0.5).predict is None
    assert like("mae", {}, strategy="segmentation").predict == "background"


def test_a_spec_of_version_1_keeps_what_it_meant() -> None:
    stored = {"strategy": "random", "ratio": 0.2, "scope": "batch"}
    spec = ExperimentSpec.model_validate(
        {"version": 1, "dataset": {"name": "digits"}, "masking": stored}
    )
    assert spec.version == 2
    expected = stored | {"count": "nearest", "ratio_of": "variance"}
    assert resolve(spec).masking == MaskingSpec.model_validate(expected)
    again = ExperimentSpec.model_validate_json(resolve(spec).model_dump_json())
    assert resolve(again) == resolve(spec)

    by_objects = {"strategy": "segmentation", "mode": "random", "scope": "image"}
    fields = {"version": 1, "method": "mae", "dataset": {"name": "clevr"}, "masking": by_objects}
    masking = resolve(ExperimentSpec.model_validate(fields)).masking
    assert masking == MaskingSpec.model_validate(by_objects | {"predict": "object"})
    patches = {"version": 1, "method": "mae", "dataset": {"name": "digits"}}
    assert resolve(ExperimentSpec.model_validate(patches)).masking == _resolved("mae", "digits")


@pytest.mark.parametrize("field", ["accumulate_steps", "devices"])
def test_masks_that_follow_objects_need_whole_batches(field: str) -> None:
    fields = {
        "method": "mae",
        "dataset": {"name": "clevr"},
        "masking": {"strategy": "segmentation"},
        field: 2,
    }
    with pytest.raises(SpecError, match="cannot be split into parts; expected 1") as caught:
        resolve(ExperimentSpec.model_validate(fields))
    assert caught.value.field == (field,)
