"""Assignments of single fields, over a preset and over a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pmae.errors import SpecError
from pmae.presets import get_preset, load_spec
from pmae.spec import ExperimentSpec, KnnSpec
from pmae.spec.changes import field_paths, merge_patch, read_changes


def changes(*assignments: str) -> dict[str, Any]:
    return read_changes(assignments, ExperimentSpec)


def test_merge_patch_is_rfc_7396() -> None:
    target = {"a": {"b": 1, "c": [1]}, "d": 1}
    patch = {"a": {"b": None, "c": [2], "e": {"f": 1}}, "d": {"g": None}}
    assert merge_patch(target, patch) == {"a": {"c": [2], "e": {"f": 1}}, "d": {}}
    assert target == {"a": {"b": 1, "c": [1]}, "d": 1}, "the target stays as it is"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.3", 0.3),
        ("1e-3", 1e-3),
        ("-2E+4", -2e4),
        ("[0.1, 0.9]", [0.1, 0.9]),
        ("{strategy: top, ratio: 0.4}", {"strategy": "top", "ratio": 0.4}),
        ('{"strategy": "top"}', {"strategy": "top"}),
        ("2026-01-02", "2026-01-02"),
        ("5e50487a9618/step-00000114", "5e50487a9618/step-00000114"),
        ("a=b", "a=b"),
        ("'0.3'", "0.3"),
        ("true", True),
        ("null", None),
    ],
)
def test_values_are_yaml_as_json_has_it(text: str, value: object) -> None:
    assert changes(f"masking={text}") == {"masking": value}


def test_the_changes_of_one_part_come_together_and_the_later_counts() -> None:
    assert changes(
        "masking.ratio=0.3", "model.decoder_depth=2", "masking.strategy=top", "masking.ratio=0.4"
    ) == {"masking": {"ratio": 0.4, "strategy": "top"}, "model": {"decoder_depth": 2}}
    assert changes("masking.ratio=null") == {"masking": {"ratio": None}}, "back to the default"
    assert changes("evaluations=[{protocol: knn}]") == {"evaluations": [{"protocol": "knn"}]}


def test_a_part_that_was_reset_stays_so_when_a_field_of_it_is_changed() -> None:
    theirs = {"masking": {"ratio": [0.1, 0.2], "strategy": "top", "scope": "image"}, "seed": 3}
    ours = changes("masking=null", "masking.ratio=0.5", "seed=null")
    assert merge_patch(theirs, ours) == {"masking": {"ratio": 0.5}}
    again = changes("masking.strategy=block", "masking=null", "masking={ratio: 0.5}")
    assert again == changes("masking=null", "masking.ratio=0.5")
    assert changes("masking.ratio=0.5", "masking=null") == {"masking": None}, "the later counts"
    twice = changes(
        "masking=null", "masking.ratio=0.5", "masking.ratio=null", "masking.scope=image"
    )
    assert merge_patch(theirs, twice) == {"masking": {"scope": "image"}, "seed": 3}


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("masking.rato=0.3", "no field masking.rato; the nearest are masking.ratio"),
        ("ratio=0.3", "the nearest are masking.ratio"),
        ("epoch=3", "the nearest are epochs"),
        ("masking={rato: 0.3}", "no field masking.rato"),
        ("masking.=3", "no field masking.; valid in masking: strategy, ratio"),
        ("wholly_other=1", "valid: kind, version"),
        ("epochs.number=3", "epochs has no fields of its own; expected epochs=value"),
        ("evaluations.0.k=3", "evaluations has no fields of its own"),
        ("epochs", "expected path=value"),
        ("=3", "expected path=value"),
        ("epochs=", "epochs has no value; expected epochs=null for its default"),
        (".epochs=3", "'.epochs' is not a field's path"),
        ("tags=[a, {", "in line 1, column "),
        ("tags=[a", "the value of tags is neither YAML nor JSON"),
        ("masking.ratio=.nan", "the value of masking.ratio has a number that is not finite"),
        ("name=!!python/object:os.system x", "is neither YAML nor JSON"),
    ],
)
def test_what_is_no_change_of_a_spec_is_told_with_what_would_be(assignment: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        changes("epochs=2", assignment)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_model_has_other_fields() -> None:
    assert read_changes(["k=[5]", "features=mean"], KnnSpec) == {"k": [5], "features": "mean"}
    with pytest.raises(SpecError, match="no field base_lr"):
        read_changes(["base_lr=0.1"], KnnSpec)


def test_every_field_of_every_preset_can_be_changed_by_its_path() -> None:
    paths = set(field_paths(ExperimentSpec))
    assert {"masking.ratio", "basis.kind", "model", "dataset.name", "checkpoint"} <= paths
    spec = get_preset("quickstart").spec.model_dump(mode="json")
    for path in paths:
        value: Any = spec
        for part in path.split("."):
            value = None if value is None else value[part]
        if value is not None and not isinstance(value, dict):
            patch = read_changes([f"{path}={json.dumps(value)}"], ExperimentSpec)
            assert (
                ExperimentSpec.model_validate(merge_patch(spec, patch)).model_dump(mode="json")
                == spec
            )


def test_a_file_that_holds_no_spec_names_each_bad_field_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("epochs: many\ndataset: {name: digits}\nevaluations: [{protocol: knn, k: [0]}]")
    with pytest.raises(SpecError) as caught:
        load_spec(str(file))
    told = str(caught.value)
    assert "epochs: input should be a valid integer" in told
    assert "evaluations.0.k.0: input should be greater than 0" in told
    assert "\n" not in told
    file.write_text("- 1\n")
    with pytest.raises(SpecError, match="expected an object with fields"):
        load_spec(str(file))
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(str(file))
    file.write_text("dataset: {name: digits}\nmasking: {rato: 0.3}")
    with pytest.raises(SpecError, match=r"no field masking\.rato; the nearest are masking\.ratio"):
        load_spec(str(file))
    file.write_text("masking: {ratio: 0.3}")
    with pytest.raises(SpecError, match="dataset: a value is required"):
        load_spec(str(file))
