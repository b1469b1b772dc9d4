"""The linear probe: one linear layer on frozen features (arXiv 2111.06377, appendix A.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pmae.losses import classification_loss, correct_predictions
from pmae.schedules import warmup_cosine
from pmae.seeding import generator
from pmae.spec import LinearProbeSpec

_MOMENTUM = 0.9
_STD_FLOOR = 1e-6


@dataclass(frozen=True)
class Features:
    """Features and classes of one split.

    Attributes:
        values: ``(n, dim)`` float32.
        labels: ``(n,)`` int64 classes, or ``(n, k)`` int64 of 0 and 1.
    """

    values: Tensor
    labels: Tensor


def linear_probe(
    train: Features, test: Features, *, num_classes: int, spec: LinearProbeSpec, seed: int
) -> float:
    """Train a linear classifier on ``train`` and measure it on ``test``.

    SGD with momentum, learning rate ``base_lr * batch_size / 256`` with warm-up and cosine, no
    weight decay. Nothing is chosen by the test split: the figure is that of the last epoch.

    Returns:
        Top-1: the share of test images whose class was predicted, 0 to 1; where images have
        several binary labels, the share of labels that were.
    """
    train_values, test_values = train.values, test.values
    if spec.standardize:
        mean, std = train_values.mean(dim=0), train_values.std(dim=0).clamp(min=_STD_FLOOR)
        train_values, test_values = (train_values - mean) / std, (test_values - mean) / std
    layer = nn.Linear(train_values.shape[1], num_classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    _fit(layer, train_values, train.labels, spec, seed)
    with torch.no_grad():
        return correct_predictions(layer(test_values), test.labels).item() / len(test.labels)


def _fit(
    layer: nn.Linear, values: Tensor, labels: Tensor, spec: LinearProbeSpec, seed: int
) -> None:
    batch_size = min(spec.batch_size, len(values))
    steps_per_epoch = len(values) // batch_size
    peak = spec.base_lr * spec.batch_size / 256
    optimizer = torch.optim.SGD(layer.parameters(), lr=peak, momentum=_MOMENTUM)
    for epoch in range(spec.epochs):
        order = torch.randperm(len(values), generator=generator(seed, "probe", epoch))
        for position in range(steps_per_epoch):
            factor = warmup_cosine(
                epoch * steps_per_epoch + position,
                total_steps=spec.epochs * steps_per_epoch,
                warmup_steps=min(spec.warmup_epochs, spec.epochs) * steps_per_epoch,
            )
            optimizer.param_groups[0]["lr"] = peak * factor
            rows = order[position * batch_size :][:batch_size]
            loss = classification_loss(layer(values[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
