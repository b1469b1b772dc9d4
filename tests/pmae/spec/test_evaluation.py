"""Evaluations in a spec: old ones still stand, defaults are written out, each is its protocol's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pmae.errors import SpecError
from pmae.presets import load_spec
from pmae.spec import (
    RUN_SPEC,
    EvaluateSpec,
    ExperimentSpec,
    FinetuneSpec,
    KnnSpec,
    LinearProbeSpec,
    resolve,
    resolve_evaluate,
)


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


def evaluate_spec(**fields: Any) -> EvaluateSpec:
    return EvaluateSpec.model_validate(
        {"checkpoint": "0123456789ab/step-00000640", "evaluations": [{}], **fields}
    )


def test_an_evaluating_run_takes_over_what_its_checkpoint_was_trained_with() -> None:
    parent = resolve(spec_of(seed=3, threads=2))
    spec = resolve_evaluate(evaluate_spec(evaluations=[{"dataset": {"name": "digits"}}]), parent)
    assert (spec.seed, spec.threads) == (3, 2)
    (evaluation,) = spec.evaluations
    assert isinstance(evaluation, LinearProbeSpec)
    assert evaluation.standardize is True
    assert evaluation.dataset is not None
    assert evaluation.dataset.resolution == 8
    assert resolve_evaluate(spec, parent) == spec
    assert resolve_evaluate(evaluate_spec(seed=0, threads=1), parent).seed == 0
    with pytest.raises(SpecError, match="a checkpoint is of one epoch") as caught:
        resolve_evaluate(evaluate_spec(evaluations=[{}, {"at_epochs": [1]}]), parent)
    assert caught.value.field == ("evaluations", 1, "at_epochs")


@pytest.mark.parametrize(
    "reference",
    ["latest", "/etc/passwd", "../0123456789ab/step-00000640", "0123456789ab/step-1", ""],
)
def test_a_checkpoint_is_named_by_run_and_step(reference: str) -> None:
    assert evaluate_spec(checkpoint="0123456789ab-00000640") == evaluate_spec()
    assert (evaluate_spec().parent_id, evaluate_spec().checkpoint_name) == (
        "0123456789ab",
        "step-00000640",
    )
    with pytest.raises(ValidationError, match="expected <run id>/<checkpoint name>"):
        evaluate_spec(checkpoint=reference)


def test_a_spec_is_of_the_kind_that_it_names(tmp_path: Path) -> None:
    fields = {"dataset": {"name": "digits"}}
    assert isinstance(RUN_SPEC.validate_python(fields), ExperimentSpec)
    assert RUN_SPEC.validate_json(evaluate_spec().model_dump_json()) == evaluate_spec()
    assert RUN_SPEC.validate_python(evaluate_spec()) == evaluate_spec()
    with pytest.raises(ValidationError, match="expected one of pretrain, evaluate for `kind`"):
        RUN_SPEC.validate_python(fields | {"kind": "sweep"})
    file = tmp_path / "spec.json"
    file.write_text(evaluate_spec().model_dump_json())
    assert load_spec(str(file)) == evaluate_spec()


def test_one_bad_evaluation_is_one_error() -> None:
    for evaluations, kind in ((["x"], "unknown_protocol"), ([], "no_evaluation")):
        with pytest.raises(ValidationError) as caught:
            evaluate_spec(evaluations=[{"protocol": e} for e in evaluations])
        assert [error["type"] for error in caught.value.errors()] == [kind]
