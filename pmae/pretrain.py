"""Pretraining with Lightning as the loop over the steps that remain.

Lightning sees one epoch whose batches are step numbers; epochs, learning rate, order, crops and
masks are functions of (seed, step). A process that starts at step 640 then does exactly what one
that ran through would do, in the middle of an epoch too, and needs nothing but weights, optimiser
state and this epoch's running sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from pmae.checkpoints import TrainingState
from pmae.data.augment import draw_augmentation
from pmae.data.images import Batch, ImageData
from pmae.data.standardize import PixelStatistics
from pmae.errors import NonFiniteLossError
from pmae.losses import classification_loss, correct_predictions
from pmae.models import MaskedAutoencoder
from pmae.objectives import Draw, Objective
from pmae.schedules import warmup_cosine
from pmae.seeding import generator
from pmae.spec import ExperimentSpec

ONLINE_PROBE_LR = 1e-3


@dataclass(frozen=True)
class StepPlan:
    """How many steps a run has.

    Attributes:
        num_images: in the train split.
        batch_size: as in the spec; a smaller train split makes one smaller batch.
        epochs: as in the spec.
    """

    num_images: int
    batch_size: int
    epochs: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; each epoch leaves another remainder out."""
        return max(1, self.num_images // self.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the run."""
        return self.steps_per_epoch * self.epochs

    def batch_indices(self, seed: int, step: int) -> Tensor:
        """Which images step ``step`` (from 0) sees: int64, at most ``batch_size`` of them."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _epoch_order(self.num_images, seed, epoch)
        return order[position * self.batch_size :][: self.batch_size]


@lru_cache(maxsize=2)
def _epoch_order(num_images: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(num_images, generator=generator(seed, "order", epoch))


@dataclass(frozen=True)
class RemainingSteps:
    """The "data loader" that Lightning loops over: step numbers from ``first``."""

    first: int
    total: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.total))

    def __len__(self) -> int:
        return self.total - self.first


@dataclass
class EpochSums:
    """Running sums over the finished steps of the current epoch; part of a checkpoint."""

    loss: float = 0.0
    correct: float = 0.0
    images: float = 0.0

    def add(self, loss: float, correct: float, images: int) -> None:
        """Count one step."""
        self.loss += loss * images
        self.correct += correct
        self.images += images

    def means(self, split: str, accuracy: str) -> dict[str, float]:
        """The figures of ``split`` (train or val); ``accuracy`` is what the probe's is called."""
        return {
            f"{split}_loss": self.loss / self.images,
            f"{split}_online_probe_{accuracy}": self.correct / self.images,
        }


class PretrainModule(pl.LightningModule):
    """The model, the online probe and one training step.

    Args:
        spec: resolved.
        data: the images.
        statistics: of the train split.
        objective: on the device that trains.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        spec: ExperimentSpec,
        data: ImageData,
        statistics: PixelStatistics,
        objective: Objective,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.data = data
        self.objective = objective
        self.plan = StepPlan(len(data.train), spec.batch_size, spec.epochs)
        self.model = MaskedAutoencoder(
            spec.model,
            image_size=spec.resolution,
            channels=data.image_shape[0],
            seed=spec.seed,
        )
        self.probe = nn.Linear(self.model.encoder.embed_dim, data.num_classes)
        nn.init.zeros_(self.probe.weight)
        nn.init.zeros_(self.probe.bias)
        self.register_buffer("pixel_mean", statistics.mean)
        self.register_buffer("pixel_std", statistics.std)
        self.sums = EpochSums()
        self._ahead: Iterator[Batch] = iter(())
        self._ahead_step = -1
        self.last_draw: Draw | None = None
        self.last_loss = math.nan

    # What a step computes

    def training_step(self, step: int) -> Tensor:
        """Step ``step`` (from 0): the masked loss plus the online probe's, which share no gradient.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """
        batch = self._batch(step).to(self.device)
        _, _, height, width = batch.images.shape
        crops = draw_augmentation(
            len(batch.images),
            height,
            width,
            self.spec.augmentation,
            generator(self.spec.seed, "augment", step),
        )
        pixels, objects = crops.apply(batch.images), batch.object_masks
        if objects is not None:
            objects = crops.apply_to_object_masks(objects)
        draw = self.objective.draw(
            len(pixels), self.spec.masking, generator(self.spec.seed, "mask", step), objects
        )
        loss, logits = self._losses(self._standardize(pixels), draw)
        self.last_draw, self.last_loss = draw, loss.item()
        if not math.isfinite(self.last_loss):
            raise NonFiniteLossError(step + 1)
        correct = correct_predictions(logits, batch.labels).item()
        self.sums.add(self.last_loss, correct, len(pixels))
        return loss + classification_loss(logits, batch.labels)

    def _batch(self, step: int) -> Batch:
        """The images of a step; those of the steps after it are read ahead."""
        if step != self._ahead_step:
            steps = range(step, self.plan.total_steps)
            self._ahead = self.data.train.batches(
                self.plan.batch_indices(self.spec.seed, each) for each in steps
            )
        self._ahead_step = step + 1
        return next(self._ahead)

    def _losses(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        masked = draw.masked.to(self.device)
        bf16 = self.spec.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            prediction, cls = self.objective.predict(self.model, images, masked)
        loss = self.objective.loss(prediction.float(), images, masked)
        return loss, self.probe(cls.float().detach())

    def _standardize(self, pixels: Tensor) -> Tensor:
        return PixelStatistics(self.pixel_mean, self.pixel_std).standardize(pixels)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and online probe on the validation split, under the same masks at every epoch."""
        self.eval()
        sums = EpochSums()
        for index, held in enumerate(self.data.val.in_order(self.spec.batch_size)):
            batch = held.to(self.device)
            images = self._standardize(batch.images / 255)
            noise = generator(self.spec.seed, "val", index)
            draw = self.objective.draw(len(images), self.spec.masking, noise, batch.object_masks)
            loss, logits = self._losses(images, draw)
            correct = correct_predictions(logits, batch.labels).item()
            sums.add(loss.item(), correct, len(images))
        self.train()
        return sums.means("val", self.probe_accuracy)

    @property
    def probe_accuracy(self) -> str:
        """``top1``, or ``accuracy`` where images have several binary labels."""
        return "accuracy" if self.data.multi_label else "top1"

    # Optimiser and learning rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW in three groups: decayed, not decayed (biases and norms), and the online probe."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        peak, decay = self.spec.learning_rate, self.spec.optimizer.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay, "lr": peak},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "lr": peak},
            {"params": list(self.probe.parameters()), "weight_decay": 0.0, "lr": ONLINE_PROBE_LR},
        ]
        fused = self.spec.optimizer.implementation == "fused"
        return torch.optim.AdamW(
            groups, betas=self.spec.optimizer.betas, fused=fused, foreach=not fused
        )

    def learning_rate(self, step: int) -> float:
        """The model's learning rate at step ``step`` (from 0)."""
        warmup_epochs = self.spec.schedule.warmup_epochs or 0.0
        factor = warmup_cosine(
            step,
            total_steps=self.plan.total_steps,
            warmup_steps=warmup_epochs * self.plan.steps_per_epoch,
        )
        return self.spec.learning_rate * factor

    def on_train_batch_start(self, batch: int, batch_idx: int) -> None:  # noqa: ARG002
        """Set the learning rate of the step."""
        for group in self._optimizer().param_groups[:2]:
            group["lr"] = self.learning_rate(batch)

    def _optimizer(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self.trainer.optimizers[0]
        return optimizer

    # Checkpoints

    def training_state(self) -> TrainingState:
        """A copy of everything that the next step depends on, on the CPU."""
        return TrainingState(
            weights={name: value.detach().cpu() for name, value in self.state_dict().items()},
            optimizer=self._optimizer().state_dict(),
            counters=dict(vars(self.sums)),
        )

    def load_weights(self, state: TrainingState) -> None:
        """Take the weights of a saved state, pixel statistics included."""
        self.load_state_dict(state.weights)

    def load_training_state(self, state: TrainingState, optimizer: torch.optim.Optimizer) -> None:
        """Go back to a saved state."""
        self.load_weights(state)
        optimizer.load_state_dict(state.optimizer)
        self.sums = EpochSums(**state.counters)
