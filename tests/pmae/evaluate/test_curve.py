"""What is recorded of each epoch of a classifier's training."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pmae.evaluate.curve import EpochCurve
from pmae.evaluate.measure import Evaluations
from pmae.evaluate.results import MAX_CURVE_POINTS, curve_figures
from pmae.spec import EvaluationSpec, FinetuneSpec, KnnSpec, LinearProbeSpec, MlpProbeSpec
from tests.pmae.evaluate.test_measure import measure


@pytest.mark.parametrize(
    "spec",
    [
        LinearProbeSpec(epochs=6),
        LinearProbeSpec(epochs=6, layers="all"),
        LinearProbeSpec(epochs=3, recipe="paper"),
        MlpProbeSpec(epochs=6, num_seeds=2),
        FinetuneSpec(epochs=2, batch_size=64),
    ],
    ids=["linear", "layers", "paper", "mlp", "finetune"],
)
def test_its_last_epoch_is_the_figure_that_counts(
    spec: EvaluationSpec, evaluations: Evaluations
) -> None:
    result = measure(evaluations, spec)
    curve, best = result.curve, result.best_epoch
    assert curve is not None
    assert best is not None
    assert not isinstance(spec, KnnSpec)
    assert curve.epochs == list(range(1, spec.epochs + 1))
    assert curve.test_accuracy[-1] == pytest.approx(result.top1, abs=1e-5)
    assert curve.val_accuracy is not None
    assert curve.val_accuracy[-1] == pytest.approx(result.val_top1, abs=1e-5)
    assert {len(curve.train_loss), len(curve.train_accuracy)} == {spec.epochs}
    assert all(0 <= value <= 1 for value in curve.train_accuracy)
    assert best.top1 >= result.top1
    assert len(best.top1_by_seed) == len(best.epochs) == spec.num_seeds
    assert "curve" in result.details()


def test_neighbours_have_no_epochs(evaluations: Evaluations) -> None:
    result = measure(evaluations, KnnSpec(k=(2,)))
    assert result.curve is None
    assert "curve" not in result.details()


def test_losses_are_means_over_images_and_held_out_ones_those_after_the_epoch() -> None:
    noise = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(30, 3, generator=noise), torch.arange(30) % 3
    answers = iter([logits, -logits])
    curve = EpochCurve({"test": (lambda: next(answers), labels)})
    for rows in torch.arange(30).split(20):  # batches of 20 and of 10
        curve.follow(logits[rows], labels[rows])
    curve.end_epoch()
    curve.follow(logits, labels)
    curve.end_epoch()
    expected = functional.cross_entropy(logits, labels).item()
    assert curve.values["train_loss"] == pytest.approx([expected] * 2)
    assert curve.values["test_loss"][0] == pytest.approx(expected)
    assert curve.values["test_loss"][1] != pytest.approx(expected)
    right = (logits.argmax(dim=1) == labels).double().mean().item()
    assert curve.values["train_accuracy"] == pytest.approx([right] * 2)


def _seed(test: list[float]) -> dict[str, list[float]]:
    others = ("train_loss", "train_accuracy", "test_loss")
    return {**{name: [0.0] * len(test) for name in others}, "test_accuracy": test}


def test_each_seed_has_its_own_best_epoch() -> None:
    found = curve_figures([_seed([0.1, 0.5, 0.3]), _seed([0.2, 0.2, 0.4])])
    assert found["best_epoch"].epochs == [2, 3]
    assert found["best_epoch"].top1 == pytest.approx(0.45)
    assert found["curve"].test_accuracy == pytest.approx([0.15, 0.35, 0.35])
    assert found["curve"].val_loss is None


def test_of_many_epochs_some_are_kept_and_the_last() -> None:
    values = [index / 10_000 for index in range(1999)]
    values[6] = 0.9
    found = curve_figures([_seed(values)])
    epochs = found["curve"].epochs
    assert len(epochs) <= MAX_CURVE_POINTS
    assert epochs[-1] == 1999
    assert found["best_epoch"].epochs == [7]
