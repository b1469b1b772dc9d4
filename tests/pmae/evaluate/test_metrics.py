"""Figures of predictions, against scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics

from pmae.evaluate.classification_metrics import score


def test_classes_agree_with_scikit_learn() -> None:
    noise = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 9, (500,), generator=noise)
    logits = torch.randn(500, 9, generator=noise)
    logits[torch.arange(500), labels] += 1
    scores = score(logits, labels)
    true, predicted = labels.numpy(), logits.argmax(dim=1).numpy()
    confusion = metrics.confusion_matrix(true, predicted)
    assert (scores.confusion.numpy() == confusion).all()
    assert scores.top1 == metrics.accuracy_score(true, predicted)
    assert scores.top5 == metrics.top_k_accuracy_score(true, logits.numpy(), k=5)
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(true, predicted, average="macro"))
    balanced = metrics.balanced_accuracy_score(true, predicted)
    assert scores.balanced_accuracy == pytest.approx(balanced)
    recall = metrics.recall_score(true, predicted, average=None)
    assert scores.per_class == pytest.approx(recall.tolist())


def test_there_is_no_top5_of_five_classes_nor_where_classes_are_not_ranked() -> None:
    labels = torch.arange(5)
    assert score(torch.eye(5), labels).top5 is None
    assert score(torch.eye(6), torch.arange(6), ranked=False).top5 is None
    assert score(torch.eye(6), torch.arange(6)).top5 == 1.0


def test_a_class_without_images_has_no_accuracy() -> None:
    scores = score(torch.eye(3)[:2], torch.tensor([0, 1]))
    assert scores.per_class[:2] == [1.0, 1.0]
    assert math.isnan(scores.per_class[2])
    assert scores.balanced_accuracy == 1.0


def test_naming_the_largest_class_is_no_balanced_accuracy() -> None:
    labels = torch.tensor([0] * 9 + [1])
    scores = score(torch.tensor([[1.0, 0.0]]).expand(10, 2), labels)
    assert (scores.top1, scores.balanced_accuracy) == (0.9, 0.5)


def test_binary_labels_agree_with_scikit_learn() -> None:
    noise = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 2, (300, 24), generator=noise)
    labels[:, 3] = 0
    logits = torch.randn(300, 24, generator=noise) + labels
    scores = score(logits, labels)
    true, predicted = labels.numpy(), (logits > 0).long().numpy()
    assert scores.top1 == pytest.approx((true == predicted).mean())
    assert scores.per_class == pytest.approx((true == predicted).mean(axis=0).tolist())
    f1 = [
        metrics.f1_score(
            true[:, j], predicted[:, j], labels=[0, 1], average="macro", zero_division=0
        )
        for j in range(24)
    ]
    assert scores.macro_f1 == pytest.approx(np.mean(f1))
    recalls = [
        metrics.recall_score(
            true[:, j], predicted[:, j], labels=np.unique(true[:, j]), average="macro"
        )
        for j in range(24)
    ]
    assert scores.balanced_accuracy == pytest.approx(np.mean(recalls))
    expected = metrics.multilabel_confusion_matrix(true, predicted)
    assert (scores.confusion.numpy() == expected).all()
