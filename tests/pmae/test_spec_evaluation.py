"""Evaluations in a spec: old ones still stand, defaults are written out, each is its protocol's."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pmae.errors import SpecError
from pmae.spec import ExperimentSpec, FinetuneSpec, KnnSpec, LinearProbeSpec, resolve


def spec_of(*evaluations: dict[str, Any], **fields: Any) -> ExperimentSpec:
    return ExperimentSpec.model_validate(
        {"dataset": {"name": "digits"}, "evaluations": evaluations, **fields}
    )


def test_a_spec_that_was_stored_before_still_validates() -> None:
    stored = {
        "protocol": "linear",
        "epochs": 100,
        "base_lr": 0.1,
        "batch_size": 256,
        "warmup_epochs": 10.0,
        "standardize": True,
        "baselines": ["raw_pixels"],
    }
    (evaluation,) = resolve(spec_of(stored)).evaluations
    assert isinstance(evaluation, LinearProbeSpec)
    assert evaluation.recipe == "cached"
    assert stored.items() <= evaluation.model_dump(mode="json").items()


def test_defaults_are_the_papers_and_resolving_twice_changes_nothing() -> None:
    resolved = resolve(
        spec_of(
            {},
            {"recipe": "paper"},
            {"protocol": "mlp", "at_epochs": [5, 2, 5]},
            {"protocol": "knn", "dataset": {"name": "digits"}},
            {"protocol": "finetune"},
        )
    )
    linear, paper, mlp, knn, finetune = resolved.evaluations
    assert isinstance(knn, KnnSpec)
    assert isinstance(finetune, FinetuneSpec)
    assert [getattr(e, "standardize", None) for e in (linear, paper, mlp, knn)] == [
        True,
        False,
        True,
        False,
    ]
    assert mlp.at_epochs == (2, 5)
    assert knn.k == tuple(range(2, 20))
    assert knn.dataset is not None
    assert knn.dataset.resolution == 8
    assert (finetune.base_lr, finetune.betas) == (1e-3, (0.9, 0.999))
    assert resolve(resolved) == resolved
    assert ExperimentSpec.model_validate_json(resolved.model_dump_json()) == resolved


def test_what_was_written_keeps_its_protocol() -> None:
    spec = ExperimentSpec.model_validate(
        {"dataset": {"name": "digits"}, "evaluations": (KnnSpec(k=(5,)), FinetuneSpec(epochs=3))}
    )
    written = spec.model_dump(mode="json", exclude_unset=True)
    assert written["evaluations"] == [
        {"protocol": "knn", "k": [5]},
        {"protocol": "finetune", "epochs": 3},
    ]


@pytest.mark.parametrize(
    ("evaluation", "field", "message"),
    [
        ({"at_epochs": [9, 801]}, ("evaluations", 0, "at_epochs"), "801 is none of them"),
        (
            {"dataset": {"name": "cifar10"}},
            ("evaluations", 0, "dataset", "name"),
            "images of 1 channels, cifar10 has 3",
        ),
        (
            {"dataset": {"name": "fashion_mnist", "resolution": 28}},
            ("evaluations", 0, "dataset", "resolution"),
            "images of 8 pixels",
        ),
    ],
)
def test_what_does_not_suit_the_run_is_named(
    evaluation: dict[str, Any], field: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        resolve(spec_of(evaluation))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "evaluation",
    [
        {"protocol": "knn", "epochs": 3},
        {"protocol": "finetune", "layers": "all"},
        {"protocol": "finetune", "baselines": ["raw_pixels"]},
        {"protocol": "knn", "k": []},
        {"protocol": "linear", "recipe": "fast"},
        {"protocol": 3},
    ],
)
def test_fields_of_another_protocol_are_refused(evaluation: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec_of(evaluation)
