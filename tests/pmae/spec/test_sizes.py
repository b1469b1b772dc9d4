"""What a spec asks of its training images: fitted, or refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from pmae.errors import SpecError
from pmae.spec import BasisSpec, EvaluateSpec, ExperimentSpec, LinearProbeSpec, resolve
from pmae.spec.parts.evaluation import PAPER_K, warmup_epochs
from pmae.spec.sizes import check_sizes, check_submission, fit_components, fit_neighbours

IMAGES = {"name": "digits", "max_train_images": 100}


def _spec(**fields: Any) -> ExperimentSpec:
    return resolve(ExperimentSpec.model_validate({"dataset": IMAGES, "batch_size": 64} | fields))


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        (
            {"basis": {"num_components": 100 - 36, "fit_images": 50}},
            ("basis", "num_components"),
            "50 images span at most 49 components, not 64; expected 2 to 49",
        ),
        (
            {"basis": {"kind": "pca_augmented", "num_components": 64, "fit_images": 20}},
            ("basis", "num_components"),
            "20 images span at most 19 components",
        ),
        (
            {"evaluations": [{}, {"protocol": "knn", "k": [5, 101]}]},
            ("evaluations", 1, "k"),
            "101 neighbours of 100 training images; expected at most 100",
        ),
        (
            {"evaluations": [{"protocol": "knn", "k": [5], "label_fraction": 0.04}]},
            ("evaluations", 0, "k"),
            "5 neighbours of 4 training images",
        ),
        (
            {"evaluations": [{"epochs": 5, "warmup_epochs": 6}]},
            ("evaluations", 0, "warmup_epochs"),
            "6 is more than the 5 epochs of the classifier",
        ),
        ({"batch_size": 512, "devices": 8, "accumulate_steps": 16}, ("accumulate_steps",), "parts"),
    ],
)
def test_what_the_images_cannot_give_is_refused_at_submission(
    fields: dict[str, Any], field: tuple[str | int, ...], sentence: str
) -> None:
    with pytest.raises(SpecError, match=sentence) as caught:
        check_submission(_spec(**fields))
    assert caught.value.field == field


def test_a_warm_up_longer_than_the_training_is_refused() -> None:
    with pytest.raises(SpecError, match=r"9\.0 is more than the 8 epochs") as caught:
        _spec(epochs=8, schedule={"warmup_epochs": 9})
    assert caught.value.field == ("schedule", "warmup_epochs")


def test_the_same_sentence_comes_from_the_trainer_where_only_files_tell() -> None:
    spec = _spec(dataset={"name": "folder:birds"}, basis={"num_components": 64, "solver": "exact"})
    check_submission(spec)
    with pytest.raises(SpecError, match="64 images span at most 63 components, not 64"):
        check_sizes(spec, 64)
    assert check_sizes(spec, 65) == []


def test_a_batch_larger_than_the_images_is_fitted_with_its_learning_rate() -> None:
    spec = _spec(batch_size=512)
    (note,) = check_sizes(spec, 100)
    assert note.startswith("batch_size: 512 is more than the 100 training images")
    assert spec.peak_lr(100) == spec.optimizer.base_lr * 100 / 256
    assert check_sizes(_spec(batch_size=100), 100) == []


def test_the_default_of_a_randomised_basis_is_fitted_to_the_images() -> None:
    large = {"dataset": {"name": "folder:birds", "resolution": 128}, "batch_size": 8}
    spec = _spec(**large)
    assert spec.basis is not None
    assert spec.basis.num_components == 1024
    (note,) = check_sizes(spec, 300)
    assert note == (
        "basis.num_components: 300 images span at most 299 components, which are kept "
        "instead of 1024"
    )
    assert fit_components(spec.basis, 300) == 299
    assert fit_components(BasisSpec(), 10) is None, "a basis of all pixels"
    with pytest.raises(SpecError, match="span at most 299 components, not 500"):
        check_sizes(_spec(basis={"num_components": 500}, **large), 300)


def test_of_the_default_neighbours_those_are_tried_that_there_are() -> None:
    assert fit_neighbours(PAPER_K, 10) == tuple(range(2, 11))
    assert fit_neighbours(PAPER_K, 1000) == PAPER_K
    with pytest.raises(SpecError, match="19 neighbours of 1 training images"):
        fit_neighbours(PAPER_K, 1)


def test_the_warm_up_of_a_classifier_follows_its_epochs() -> None:
    fields = [{"epochs": 5}, {"protocol": "mlp"}, {"protocol": "finetune", "epochs": 20}]
    resolved = _spec(evaluations=fields).evaluations
    assert [each.warmup_epochs for each in resolved] == [0.5, 10, 1]  # type: ignore[union-attr]
    assert warmup_epochs(LinearProbeSpec(epochs=1000)) == 10


def test_an_evaluation_of_a_checkpoint_is_checked_too() -> None:
    fields = {"kind": "evaluate", "checkpoint": "3f9c0a1b2c4d-00000640"}
    late = {"epochs": 1, "warmup_epochs": 2}
    transfer = {"protocol": "knn", "k": [101], "dataset": IMAGES}
    for evaluation, name in ((late, "warmup_epochs"), (transfer, "k")):
        spec = EvaluateSpec.model_validate(fields | {"evaluations": [evaluation]})
        with pytest.raises(SpecError) as caught:
            check_submission(spec)
        assert caught.value.field == ("evaluations", 0, name)


@pytest.mark.parametrize(
    ("dataset", "lr_batch_size"),
    [
        ({"name": "digits"}, None),
        ({"name": "digits", "max_train_images": 200}, 512),
        ({"name": "folder:birds"}, 512),
        ({"name": "imagenet"}, 512),
    ],
)
def test_a_stored_spec_keeps_its_warm_up_and_its_learning_rate(
    dataset: dict[str, Any], lr_batch_size: int | None
) -> None:
    stored = {"version": 1, "dataset": dataset, "evaluations": [{"epochs": 5}]}
    spec = resolve(ExperimentSpec.model_validate(stored))
    assert spec.optimizer.lr_batch_size == lr_batch_size
    if lr_batch_size:
        assert spec.peak_lr(200) == spec.optimizer.base_lr * 512 / 256
    (probe,) = spec.evaluations
    assert isinstance(probe, LinearProbeSpec)
    assert probe.warmup_epochs == 10
