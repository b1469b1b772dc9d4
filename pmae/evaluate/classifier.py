"""Train a classifier: the loop that probes and fine-tuning share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pmae.data.transforms.augment import augment
from pmae.evaluate.curve import EpochCurve
from pmae.evaluate.subject import Target
from pmae.methods.losses import classification_loss
from pmae.schedules import warmup_cosine
from pmae.seeding import derive_seed, generator

Tick = Callable[[], None]
"""Callback between the epochs of a classifier; may raise to stop."""
Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Plan:
    """Training schedule of a classifier: warm-up to a peak learning rate, half a cosine to 0.

    Attributes:
        num_images: of the train split.
        batch_size: a smaller train split is one batch, at the same learning rate.
        base_lr: for a batch of 256.
    """

    num_images: int
    batch_size: int
    epochs: int
    warmup_epochs: float
    base_lr: float

    @property
    def peak_lr(self) -> float:
        """``base_lr * batch_size / 256``."""
        return self.base_lr * self.batch_size / 256

    @property
    def steps_per_epoch(self) -> int:
        """Full batches of an epoch; the images left out differ between epochs."""
        return max(1, self.num_images // self.batch_size)

    def learning_rate(self, step: int) -> float:
        """Learning rate at step ``step``, from 0."""
        factor = warmup_cosine(
            step,
            total_steps=self.epochs * self.steps_per_epoch,
            warmup_steps=min(self.warmup_epochs, self.epochs) * self.steps_per_epoch,
        )
        return self.peak_lr * factor

    def batches(self, seed: int, epoch: int) -> Iterator[Tensor]:
        """Indices of the images of each step of an epoch, ``(batch,)`` int64."""
        order = torch.randperm(self.num_images, generator=generator(seed, "probe", epoch))
        for position in range(self.steps_per_epoch):
            yield order[position * self.batch_size :][: self.batch_size]


def train_classifier(
    logits: Callable[[Tensor], Tensor],
    batches: Callable[[int], Batches],
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    tick: Tick,
    curve: EpochCurve,
) -> None:
    """Minimise the classification loss.

    Args:
        logits: maps a batch's inputs to ``(..., batch, num_classes)``; leading dimensions are
            classifiers that share no weights, whose losses are summed.
        batches: inputs and labels of the steps of an epoch.
        optimizer: of the classifier's weights.
        plan: gives the learning rate of each step.
        tick: called before each epoch.
        curve: records the epochs of the last classifier.
    """
    step = 0
    for epoch in range(plan.epochs):
        tick()
        for inputs, labels in batches(epoch):
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate(step)
            with torch.enable_grad():
                outputs = logits(inputs)
                heads = outputs.flatten(0, -3) if outputs.ndim > 2 else outputs[None]
                loss = torch.stack([classification_loss(head, labels) for head in heads]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.follow(heads[-1], labels)
            step += 1
        curve.end_epoch()


def augmented(
    target: Target, plan: Plan, seed: int, device: torch.device
) -> Callable[[int], Batches]:
    """Make the batches of an epoch: augmented, standardised training images on ``device``."""
    statistics = target.statistics.to(device)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        found = target.data.train.batches(plan.batches(seed, epoch))
        for position, read in enumerate(found):
            batch = read.to(device)
            step = epoch * plan.steps_per_epoch + position
            noise = generator(seed, "probe_augment", step)
            pixels = augment(batch.images, target.augmentation, noise)
            yield statistics.standardize(pixels), batch.labels

    return batches


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """Make a module whose weights depend on the seed alone; torch's generator is not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "probe_init"))
        return make()
