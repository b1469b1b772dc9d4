"""The basis of a spec: defaults written out, and what does not go together refused."""

from __future__ import annotations

from typing import Any

import pytest

from pmae.errors import SpecError
from pmae.spec import BasisSpec, ExperimentSpec, resolve

RESOLVED: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"name": "digits"}, {}, {"kind": "pca", "solver": "exact"}),
    ({"name": "tiny_imagenet"}, {}, {"kind": "pca", "solver": "exact"}),
    (
        {"name": "imagenet"},
        {},
        {
            "kind": "pca",
            "solver": "randomized",
            "num_components": 1024,
            "fit_images": 10_000,
            "seed": 0,
        },
    ),
    (
        {"name": "digits"},
        {"kind": "pca_augmented"},
        {"kind": "pca_augmented", "solver": "exact", "passes": 1, "seed": 0},
    ),
    (
        {"name": "digits"},
        {"solver": "randomized"},
        {
            "kind": "pca",
            "solver": "randomized",
            "num_components": 64,
            "fit_images": 10_000,
            "seed": 0,
        },
    ),
    ({"name": "clevr"}, {"kind": "dct"}, {"kind": "dct", "num_components": 1024}),
    ({"name": "digits"}, {"kind": "random", "seed": 3}, {"kind": "random", "seed": 3}),
    ({"name": "digits"}, {"kind": "kernel"}, {"kind": "kernel", "bandwidth": "median"}),
    (
        {"name": "digits"},
        {"kind": "kernel", "bandwidth": 2, "fit_images": 50},
        {"kind": "kernel", "bandwidth": 2.0, "fit_images": 50, "seed": 0},
    ),
]


def _spec(dataset: dict[str, Any], basis: dict[str, Any]) -> ExperimentSpec:
    return ExperimentSpec.model_validate({"dataset": dataset, "basis": basis})


@pytest.mark.parametrize(("dataset", "written", "expected"), RESOLVED)
def test_defaults_are_written_out(
    dataset: dict[str, Any], written: dict[str, Any], expected: dict[str, Any]
) -> None:
    spec = resolve(_spec(dataset, written))
    assert spec.basis is not None
    assert spec.basis.model_dump(exclude_none=True) == expected
    assert resolve(spec) == spec
    assert ExperimentSpec.model_validate_json(spec.model_dump_json()) == spec


IMAGENET, DIGITS = {"name": "imagenet"}, {"name": "digits"}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (DIGITS, {"kind": "dct", "solver": "exact"}, "solver", "belongs to pca and pca_augmented"),
    (DIGITS, {"passes": 2}, "passes", "belongs to pca_augmented, not to pca"),
    (DIGITS, {"kind": "random", "bandwidth": 1}, "bandwidth", "belongs to kernel"),
    (DIGITS, {"seed": 1}, "seed", "nothing is drawn"),
    (DIGITS, {"kind": "dct", "seed": 1}, "seed", "nothing is drawn"),
    (DIGITS, {"num_components": 65}, "num_components", "the 64 values of an image"),
    (IMAGENET, {"solver": "exact"}, "solver", "expected randomized"),
    (IMAGENET, {"kind": "kernel"}, "kind", "at most 12288 values, these have 150528"),
    (IMAGENET, {"fit_images": 1000}, "fit_images", "1000 images span fewer than 1024"),
    ({"name": "folder:x", "resolution": 112}, {"kind": "kernel"}, "kind", "these have 12544"),
]


@pytest.mark.parametrize(("dataset", "basis", "field", "reason"), REFUSED)
def test_what_does_not_go_together_is_refused(
    dataset: dict[str, Any], basis: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(SpecError, match=reason) as caught:
        resolve(_spec(dataset, basis))
    assert caught.value.field == ("basis", field)
    assert str(caught.value).startswith(f"basis.{field}: ")


def test_images_of_unknown_channels_get_the_defaults_of_three() -> None:
    spec = resolve(_spec({"name": "folder:x", "resolution": 96}, {}))
    assert spec.basis is not None
    assert (spec.basis.solver, spec.basis.num_components) == ("randomized", 1024)
    exact = resolve(_spec({"name": "folder:x", "resolution": 96}, {"solver": "exact"}))
    assert exact.basis is not None
    assert exact.basis.num_components is None, "grey images have few enough values"


def test_a_spec_stored_before_there_were_other_bases_still_resolves() -> None:
    spec = resolve(_spec(DIGITS, {"kind": "pca"}))
    assert spec.basis == BasisSpec(kind="pca", solver="exact")
