"""Loss and accuracy of a classifier after each epoch of its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pmae.methods.losses import classification_loss, correct_predictions

HeldOut = Mapping[str, tuple[Callable[[], Tensor], Tensor]]
"""By the name of a split: a function that computes the current logits ``(n, num_classes)`` of its
images, and their labels."""


class EpochCurve:
    """Record of a classifier's training; it has no influence on training or on any choice.

    Args:
        held_out: splits to measure after each epoch.

    Attributes:
        values: by ``<split>_loss`` and ``<split>_accuracy``, one value an epoch. Those of ``train``
            are means over the epoch's batches, each before its step.
    """

    def __init__(self, held_out: HeldOut) -> None:
        self._held_out = held_out
        self._sums: Tensor | None = None
        self.values: dict[str, list[float]] = {}

    def follow(self, logits: Tensor, labels: Tensor) -> None:
        """Add a training batch: its logits ``(batch, num_classes)`` before the step."""
        loss = classification_loss(logits.detach(), labels).double() * len(labels)
        count = torch.full_like(loss, len(labels))
        sums = torch.stack([loss, correct_predictions(logits.detach(), labels), count])
        self._sums = sums if self._sums is None else self._sums + sums

    def end_epoch(self) -> None:
        """Record the epoch that has ended."""
        assert self._sums is not None
        loss, correct, count = self._sums.tolist()
        self._sums = None
        self._add("train", loss / count, correct / count)
        for name, (predict, labels) in self._held_out.items():
            with torch.no_grad():
                logits = predict()
            right = correct_predictions(logits, labels).item() / len(labels)
            self._add(name, classification_loss(logits, labels).item(), right)

    def _add(self, split: str, loss: float, accuracy: float) -> None:
        self.values.setdefault(f"{split}_loss", []).append(loss)
        self.values.setdefault(f"{split}_accuracy", []).append(accuracy)
