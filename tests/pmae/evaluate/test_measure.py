"""Whole evaluations: what they find, what they leave as it is, and peers on the same features."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from pmae.data.images import ImageData, MemorySplit
from pmae.data.splits import subset
from pmae.errors import DataError, SpecError
from pmae.evaluate.features import extract
from pmae.evaluate.measure import Evaluations
from pmae.evaluate.results import EvaluationResult, Source
from pmae.evaluate.subject import Subject, weights_sha256
from pmae.settings import StorageSettings
from pmae.spec import (
    DatasetSpec,
    EvaluationSpec,
    FinetuneSpec,
    KnnSpec,
    LinearProbeSpec,
    MlpProbeSpec,
)
from pmae.spec.parts.evaluation import resolve_evaluation


def measure(
    evaluations: Evaluations, evaluation: EvaluationSpec, source: Source = "encoder"
) -> EvaluationResult:
    resolved = resolve_evaluation(evaluation, evaluations.subject.spec.dataset)
    return evaluations.measure(resolved, source, "key")


def _features(subject: Subject, name: str) -> tuple[Tensor, Tensor]:
    target = subject.target
    found = extract(subject.encoder, target.data.split(name), target.statistics, "cls", "last")
    return found.values[0], found.labels


def test_a_converged_linear_probe_agrees_with_logistic_regression(
    evaluations: Evaluations,
) -> None:
    spec = LinearProbeSpec(epochs=400, batch_size=200, base_lr=2.0, standardize=True)
    ours = measure(evaluations, spec)
    train, labels = _features(evaluations.subject, "train")
    test, truth = _features(evaluations.subject, "test")
    mean, std = train.mean(dim=0), train.std(dim=0)
    peer = LogisticRegression(C=1e6, max_iter=5000).fit((train - mean) / std, labels)
    assert peer.score((test - mean) / std, truth) == pytest.approx(ours.top1, abs=0.04)
    assert ours.top1 > 0.3


def test_knn_agrees_with_scikit_learn_and_chooses_k_on_validation(
    evaluations: Evaluations,
) -> None:
    result = measure(evaluations, KnnSpec())
    train, labels = _features(evaluations.subject, "train")
    figures: dict[str, list[float]] = {}
    for name in ("val", "test"):
        values, truth = _features(evaluations.subject, name)
        figures[name] = [
            KNeighborsClassifier(k).fit(train, labels).score(values, truth) for k in range(2, 20)
        ]
    best = figures["val"].index(max(figures["val"]))
    assert result.chosen == {"k": best + 2}
    assert result.val_top1 == pytest.approx(figures["val"][best])
    assert result.top1 == pytest.approx(figures["test"][best])


EVERY: list[EvaluationSpec] = [
    LinearProbeSpec(epochs=2),
    LinearProbeSpec(epochs=2, recipe="paper", layers="all"),
    MlpProbeSpec(epochs=2),
    KnnSpec(layers="all"),
    FinetuneSpec(epochs=1, batch_size=64),
]


@pytest.mark.parametrize("evaluation", EVERY, ids=lambda spec: str(spec.protocol))
def test_it_leaves_the_encoder_and_the_random_state_as_they_are(
    evaluations: Evaluations, evaluation: EvaluationSpec
) -> None:
    encoder = evaluations.subject.encoder.train()
    before, state = weights_sha256(encoder.state_dict()), torch.get_rng_state()
    first = measure(evaluations, evaluation)
    assert weights_sha256(encoder.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())
    again = measure(evaluations, evaluation)
    assert again.model_dump(exclude={"duration_seconds"}) == first.model_dump(
        exclude={"duration_seconds"}
    )
    assert first.num_test == sum(map(sum, first.confusion_matrix or []))


@pytest.mark.parametrize(
    "evaluation", [LinearProbeSpec(epochs=3), MlpProbeSpec(epochs=3), KnnSpec()]
)
def test_the_last_of_all_layers_is_the_plain_probe(
    evaluations: Evaluations, evaluation: LinearProbeSpec | MlpProbeSpec | KnnSpec
) -> None:
    plain = measure(evaluations, evaluation)
    by_layer = measure(evaluations, evaluation.model_copy(update={"layers": "all"}))
    assert [found.layer for found in by_layer.by_layer] == [1, 2, 3]
    assert by_layer.by_layer[-1].top1 == by_layer.top1 == plain.top1
    assert by_layer.confusion_matrix == plain.confusion_matrix
    vals = [found.val_top1 or 0.0 for found in by_layer.by_layer]
    assert vals[by_layer.chosen["layer"] - 1] == max(vals)


@pytest.mark.parametrize(
    "evaluation",
    [LinearProbeSpec(epochs=3), KnnSpec(k=(2, 3)), FinetuneSpec(epochs=1, batch_size=32)],
)
def test_a_fraction_of_the_labels_is_a_balanced_smaller_train_split(
    evaluations: Evaluations, evaluation: EvaluationSpec
) -> None:
    subject = evaluations.subject
    few = evaluation.model_copy(update={"label_fraction": 0.2})
    found = measure(evaluations, few)
    size = round(0.2 * len(subject.target.data.train))
    assert found.num_train == size
    assert found.num_test == len(subject.target.data.test)

    kept = subset(subject.target.data.train, size)
    assert torch.bincount(kept.labels).max() - torch.bincount(kept.labels).min() <= 1
    data = replace(subject.target.data, train=kept)
    # Statistics are of all training images, labelled or not.
    alone = replace(subject, target=replace(subject.target, data=data))
    others = Evaluations(alone, evaluations.settings, evaluations.tick)
    expected = measure(others, evaluation)
    assert found.confusion_matrix == expected.confusion_matrix
    # The whole train split was not touched by it.
    assert measure(evaluations, evaluation).num_train == len(subject.target.data.train)


def test_several_seeds_give_mean_and_standard_deviation(evaluations: Evaluations) -> None:
    single = [
        measure(
            Evaluations(
                replace(
                    evaluations.subject,
                    spec=evaluations.subject.spec.model_copy(update={"seed": seed}),
                ),
                evaluations.settings,
                tick=lambda: None,
            ),
            MlpProbeSpec(epochs=4),
        ).top1
        for seed in range(3)
    ]
    several = measure(evaluations, MlpProbeSpec(epochs=4, num_seeds=3))
    assert several.seeds == [0, 1, 2]
    assert several.top1_by_seed == single
    assert several.top1 == pytest.approx(sum(single) / 3)
    assert several.top1_std == pytest.approx(torch.tensor(single).double().std().item())
    assert len(set(single)) > 1


def _constructed(subject: Subject, labels: Tensor, images: Tensor) -> Subject:
    """The subject on other images: a third of them for each split."""
    train, val, test = (MemorySplit(images[i::3], labels[i::3]) for i in range(3))
    classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    data = ImageData("made", train, val, test, tuple(map(str, range(classes))))
    return replace(subject, target=replace(subject.target, data=data, digest="made"))


@pytest.mark.parametrize("protocol", [LinearProbeSpec, MlpProbeSpec, KnnSpec])
def test_separable_images_are_told_apart_and_random_labels_at_chance(
    subject: Subject, storage: StorageSettings, protocol: Any
) -> None:
    noise = torch.Generator().manual_seed(0)
    labels = torch.arange(1200) % 4
    images = torch.randint(0, 40, (1200, 1, 8, 8), generator=noise, dtype=torch.uint8)
    for quarter in range(4):
        rows = labels == quarter
        images[rows, :, 2 * quarter : 2 * quarter + 2] += 200
    separable = Evaluations(_constructed(subject, labels, images), storage, tick=lambda: None)
    assert measure(separable, protocol(), "raw_pixels").top1 == 1.0
    shuffled = labels[torch.randperm(1200, generator=noise)]
    random = Evaluations(_constructed(subject, shuffled, images), storage, tick=lambda: None)
    assert measure(random, protocol(), "raw_pixels").top1 == pytest.approx(0.25, abs=0.08)
    assert measure(random, protocol()).top1 == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize(
    "evaluation",
    [LinearProbeSpec(), KnnSpec(), FinetuneSpec(epochs=20, batch_size=50, base_lr=2e-2)],
)
def test_binary_labels(
    subject: Subject, storage: StorageSettings, evaluation: EvaluationSpec
) -> None:
    noise = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (900, 3), generator=noise)
    images = torch.zeros(900, 1, 8, 8, dtype=torch.uint8)
    for index in range(3):
        images[:, 0, 2 * index : 2 * index + 2] = 200 * labels[:, index, None, None].byte()
    made = Evaluations(_constructed(subject, labels, images), storage, tick=lambda: None)
    result = measure(made, evaluation)
    assert result.top1 > 0.95
    assert result.macro_f1 > 0.95
    matrices = torch.tensor(result.confusion_matrix).double()
    recalls = matrices.diagonal(dim1=1, dim2=2) / matrices.sum(dim=2)
    assert result.balanced_accuracy == pytest.approx(float(recalls.mean()))
    assert result.details()["balanced_accuracy"] == result.balanced_accuracy
    assert len(result.per_class) == 3
    assert result.top5 is None


def test_the_papers_recipe_learns_from_augmented_images(evaluations: Evaluations) -> None:
    paper = measure(
        evaluations, LinearProbeSpec(recipe="paper", epochs=60, batch_size=25, base_lr=5)
    )
    assert (paper.recipe, paper.standardize) == ("paper", False)
    assert paper.top1 > 0.25
    cached = measure(evaluations, LinearProbeSpec(recipe="cached", epochs=60))
    assert (cached.recipe, cached.standardize) == ("cached", True)


def test_fine_tuning_learns(evaluations: Evaluations) -> None:
    start = measure(evaluations, FinetuneSpec(epochs=1, batch_size=50, base_lr=1e-9))
    tuned = measure(evaluations, FinetuneSpec(epochs=30, batch_size=50, base_lr=2e-2))
    assert start.top1 < 0.3
    assert tuned.top1 > start.top1 + 0.4
    scratch = measure(
        evaluations, FinetuneSpec(epochs=1, batch_size=50, base_lr=1e-2), "untrained_encoder"
    )
    assert scratch.source == "untrained_encoder"


def test_transfer_measures_the_other_data_set(evaluations: Evaluations) -> None:
    smaller = DatasetSpec(name="digits", max_train_images=60, std_floor=0.3)
    result = measure(evaluations, KnnSpec(dataset=smaller, k=(3,)))
    assert result.num_train == 60
    assert result.data_digest != evaluations.subject.target.digest
    with pytest.raises(SpecError, match=r"k: 61 neighbours of 60 .* at most 60"):
        measure(evaluations, KnnSpec(dataset=smaller, k=(61,)))


def test_a_transfer_of_other_channels_is_refused(
    subject: Subject, storage: StorageSettings
) -> None:
    images = torch.zeros(30, 3, 8, 8, dtype=torch.uint8)
    coloured = _constructed(subject, torch.arange(30) % 2, images)
    made = Evaluations(coloured, storage, tick=lambda: None)
    with pytest.raises(DataError, match="1 channels, the encoder takes 3"):
        measure(made, KnnSpec(dataset=DatasetSpec(name="digits")))


def test_the_tick_may_leave(evaluations: Evaluations) -> None:
    def leave() -> None:
        raise KeyboardInterrupt

    evaluations.tick = leave
    with pytest.raises(KeyboardInterrupt):
        measure(evaluations, LinearProbeSpec())
