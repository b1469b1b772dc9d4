"""Figures of a classifier on one split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TOP = 5


@dataclass(frozen=True)
class Scores:
    """What a classifier got right.

    Attributes:
        top1: share of images whose class was predicted; of binary labels, share that are right.
        top5: share of images whose class is among the five best; None for five classes or fewer,
            for binary labels, and where classes are not ranked.
        macro_f1: F1 of each class, averaged; of binary labels, each one's macro F1, averaged.
        balanced_accuracy: share of each class's images whose class was predicted, averaged over
            the classes that have images; of binary labels over 0 and 1, then over the labels.
        per_class: accuracy of each class or label, NaN for a class without images.
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
    """Measure predictions.

    Args:
        logits: ``(n, classes)`` float: the largest is predicted (the first of equal ones), or
            ``(n, labels)``: those above 0 are.
        labels: ``(n,)`` int64 classes, or ``(n, labels)`` int64 of 0 and 1.
        ranked: whether the logits rank the classes beyond the first.
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
    cells = [true & said for true in (~labels, labels) for said in (~predicted, predicted)]
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
    """Of each class, the share of its images that are said to be of it; NaN without images."""
    return confusion.diagonal().double() / confusion.sum(dim=1)


def _f1(confusion: Tensor) -> Tensor:
    """Of each class, ``2 TP / (2 TP + FP + FN)``; 0 for a class that neither is nor is said."""
    hits = confusion.diagonal().double()
    return 2 * hits / (confusion.sum(dim=0) + confusion.sum(dim=1)).clamp(min=1)
