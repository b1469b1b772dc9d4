"""Classification metrics on one split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TOP = 5


@dataclass(frozen=True)
class Scores:
    """Metrics of a classifier, each from 0 to 1.

    Attributes:
        top1: accuracy; for binary labels, the fraction of correct ones.
        top5: fraction of images whose class is among the five best; None for five classes or fewer,
            for binary labels, and if classes are not ranked.
        macro_f1: mean over the classes of their F1; for binary labels, the mean of each one's.
        balanced_accuracy: mean recall over the classes that have images; for binary labels over 0
            and 1, then over the labels.
        per_class: recall of each class, NaN without images; or accuracy of each binary label.
        confusion: ``(classes, classes)`` int64 images by true and predicted class, or
            ``(labels, 2, 2)``.
    """

    top1: float
    top5: float | None
    macro_f1: float
    balanced_accuracy: float
    per_class: list[float]
    confusion: Tensor


def score(logits: Tensor, labels: Tensor, *, ranked: bool = True) -> Scores:
    """Compute the metrics of predictions.

    Args:
        logits: ``(n, classes)`` float, whose maximum is predicted (the first of equal ones); or
            ``(n, labels)``, where values above 0 predict 1.
        labels: ``(n,)`` int64 classes, or ``(n, labels)`` int64 of 0 and 1.
        ranked: True = the logits rank the classes beyond the first.
    """
    if labels.ndim == 2:
        return _binary(logits > 0, labels.bool())
    classes = logits.shape[1]
    predicted = logits.argmax(dim=1)
    confusion = torch.bincount(labels * classes + predicted, minlength=classes * classes)
    confusion = confusion.view(classes, classes)
    top5 = None
    if ranked and classes > _TOP:
        best = logits.topk(_TOP, dim=1).indices
        top5 = (best == labels[:, None]).any(dim=1).double().mean().item()
    recall = _recall(confusion)
    return Scores(
        top1=(predicted == labels).double().mean().item(),
        top5=top5,
        macro_f1=_f1(confusion).mean().item(),
        balanced_accuracy=recall.nanmean().item(),
        per_class=recall.tolist(),
        confusion=confusion,
    )


def _binary(predicted: Tensor, labels: Tensor) -> Scores:
    cells = [true & other for true in (~labels, labels) for other in (~predicted, predicted)]
    confusion = torch.stack([cell.sum(dim=0) for cell in cells], dim=1).view(-1, 2, 2)
    right = (predicted == labels).double().mean(dim=0)
    macro_f1 = torch.stack([_f1(matrix).mean() for matrix in confusion])
    return Scores(
        top1=right.mean().item(),
        top5=None,
        macro_f1=macro_f1.mean().item(),
        balanced_accuracy=torch.stack([_recall(m).nanmean() for m in confusion]).mean().item(),
        per_class=right.tolist(),
        confusion=confusion,
    )


def _recall(confusion: Tensor) -> Tensor:
    """Recall of each class; NaN without images."""
    return confusion.diagonal().double() / confusion.sum(dim=1)


def _f1(confusion: Tensor) -> Tensor:
    """F1 of each class, ``2 TP / (2 TP + FP + FN)``; 0 if it neither occurs nor is predicted."""
    hits = confusion.diagonal().double()
    return 2 * hits / (confusion.sum(dim=0) + confusion.sum(dim=1)).clamp(min=1)
