"""Pretraining with Lightning as the loop over the steps that remain.

Lightning sees one epoch whose batches are micro-step numbers; epochs, learning rate, order, crops
and masks are functions of (seed, step). A process that starts at step 640 then does exactly what
one that ran through would do, in the middle of an epoch too, and needs nothing but weights,
optimiser state and this epoch's running sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed, nn

from pmae.checkpoints import TrainingState
from pmae.data.augment import AugmentationDraw, draw_augmentation
from pmae.data.images import Batch, ImageData
from pmae.data.standardize import PixelStatistics
from pmae.losses import classification_loss, correct_predictions
from pmae.models import MaskedAutoencoder
from pmae.objectives import Draw, Objective
from pmae.plan import StepPlan
from pmae.schedules import warmup_cosine
from pmae.seeding import generator
from pmae.spec import ExperimentSpec
from pmae.transfer import LateLoss, read_scalars

ONLINE_PROBE_LR = 1e-3


def _zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


@dataclass
class EpochSums:
    """Running sums over the finished steps of the current epoch; part of a checkpoint.

    They stay on the device that computes, float64, until somebody reads them: that waits for it.
    """

    loss: Tensor = field(default_factory=_zero)
    correct: Tensor = field(default_factory=_zero)
    images: float = 0.0

    def add(self, loss: Tensor, correct: Tensor, images: int) -> None:
        """Count one step: its mean loss, the sum of what its probe has right, and its images."""
        self.loss = self.loss + loss.double() * images
        self.correct = self.correct + correct
        self.images += images

    def means(self, split: str, accuracy: str) -> dict[str, float]:
        """The figures of ``split`` (train or val); ``accuracy`` is what the probe's is called."""
        sums = self.counters()
        return {
            f"{split}_loss": sums["loss"] / self.images,
            f"{split}_online_probe_{accuracy}": sums["correct"] / self.images,
        }

    def counters(self) -> dict[str, float]:
        """The sums, read, as a checkpoint holds them."""
        loss, correct = read_scalars(self.loss, self.correct)
        return {"loss": loss, "correct": correct, "images": self.images}

    @classmethod
    def of_counters(cls, counters: Mapping[str, float]) -> EpochSums:
        """The inverse of :meth:`counters`."""
        loss, correct = (
            torch.tensor(counters[name], dtype=torch.float64) for name in ("loss", "correct")
        )
        return cls(loss, correct, counters["images"])


class PretrainModule(pl.LightningModule):
    """The model, the online probe and one training step.

    Args:
        spec: resolved.
        data: the images.
        statistics: of the train split.
        objective: on the device that trains.
        rank: which of the devices that share a batch this process trains on, from 0.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        spec: ExperimentSpec,
        data: ImageData,
        statistics: PixelStatistics,
        objective: Objective,
        *,
        rank: int = 0,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.data = data
        self.objective = objective
        self.rank = rank
        self.plan = StepPlan.of(spec, len(data.train))
        self.model = MaskedAutoencoder.of(spec, data.image_shape[0])
        self.probe = nn.Linear(self.model.encoder.embed_dim, data.num_classes)
        nn.init.zeros_(self.probe.weight)
        nn.init.zeros_(self.probe.bias)
        self.register_buffer("pixel_mean", statistics.mean)
        self.register_buffer("pixel_std", statistics.std)
        self.sums = EpochSums()
        self.loss = LateLoss()
        self._step_sums = (_zero(), _zero())
        self._ahead: Iterator[Batch] = iter(())
        self._ahead_micro_step = -1
        self._drawn: tuple[int, AugmentationDraw, Draw] | None = None
        self.last_draw: Draw | None = None

    # What a step computes

    def training_step(self, micro_step: int) -> Tensor:
        """One part of a step: the masked loss plus the online probe's, which share no gradient.

        The gradients of all parts add up to the whole batch's: Lightning averages over the parts
        that follow each other and DDP over those side by side, and a part's weight is its share of
        what the batch's mean is taken over, times their number.

        Args:
            micro_step: from 0.

        Raises:
            NonFiniteLossError: the loss of the whole batch before this one was NaN or infinite.
        """
        step, rows = micro_step // self.plan.accumulate_steps, self.plan.rows(micro_step, self.rank)
        batch = self._batch(micro_step).to(self.device)
        augmentation, draw = self._draws(step, batch.object_masks)
        pixels = augmentation.part(rows).apply(batch.images)
        masked = draw.masked if draw.masked.ndim == 1 else draw.masked[rows]
        loss, logits = self._losses(self._standardize(pixels), masked)
        of_images = len(pixels) / self.plan.images_per_step
        of_masked = of_images if masked.ndim == 1 else float(masked.sum() / draw.masked.sum())
        told, correct = self._step_sums
        told = told + loss.detach().double() * of_masked
        self._step_sums = told, correct + correct_predictions(logits, batch.labels)
        if self.plan.ends_step(micro_step):
            self._end_step(step, draw)
        probe_loss = classification_loss(logits, batch.labels)
        return (loss * of_masked + probe_loss * of_images) * self.plan.num_parts

    def _draws(self, step: int, object_masks: Tensor | None) -> tuple[AugmentationDraw, Draw]:
        """Crops, flips and masks of a step's whole batch, whichever part of it is seen here.

        Where masks follow objects the whole batch is seen: a resolved spec cuts it into no parts.
        """
        if self._drawn is None or self._drawn[0] != step:
            seed, images = self.spec.seed, self.plan.images_per_step
            augmentation = draw_augmentation(
                images,
                *self.data.image_shape[1:],
                self.spec.augmentation,
                generator(seed, "augment", step),
            )
            if object_masks is not None:
                object_masks = augmentation.apply_to_object_masks(object_masks)
            noise = generator(seed, "mask", step)
            draw = self.objective.draw(images, self.spec.masking, noise, object_masks)
            self._drawn = (step, augmentation, draw)
        return self._drawn[1:]

    def _end_step(self, step: int, draw: Draw) -> None:
        """Add up what the parts of a step, here and on other devices, told."""
        loss, correct = self._step_sums
        self._step_sums = _zero(), _zero()
        if self.plan.devices > 1:
            sums = torch.stack([loss, correct])
            distributed.all_reduce(sums)
            loss, correct = sums.unbind()
        self.last_draw = draw
        # The first device alone speaks for the run, and its end is the end of the others.
        if self.rank == 0:
            self.loss.put(step + 1, loss)
        self.sums.add(loss, correct, self.plan.images_per_step)

    def _batch(self, micro_step: int) -> Batch:
        """The images of a part; those of the parts after it are read ahead."""
        if micro_step != self._ahead_micro_step:
            self._ahead = self.data.train.batches(
                self._part_indices(each)
                for each in range(micro_step, self.plan.total_steps * self.plan.accumulate_steps)
            )
        self._ahead_micro_step = micro_step + 1
        return next(self._ahead)

    def _part_indices(self, micro_step: int) -> Tensor:
        step = micro_step // self.plan.accumulate_steps
        indices = self.plan.batch_indices(self.spec.seed, step)
        return indices[self.plan.rows(micro_step, self.rank)]

    def _losses(self, images: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        bf16 = self.spec.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext():
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
            loss, logits = self._losses(images, draw.masked)
            sums.add(loss, correct_predictions(logits, batch.labels), len(images))
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
        peak = self.spec.peak_lr(self.plan.images_per_step)
        decay = self.spec.optimizer.weight_decay
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
        return self.spec.peak_lr(self.plan.images_per_step) * factor

    def on_train_batch_start(self, batch: int, batch_idx: int) -> None:  # noqa: ARG002
        """Set the learning rate of the micro-step's step."""
        for group in self._optimizer().param_groups[:2]:
            group["lr"] = self.learning_rate(batch // self.plan.accumulate_steps)

    def _optimizer(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self.trainer.optimizers[0]
        return optimizer

    # Checkpoints

    def training_state(self) -> TrainingState:
        """A copy of everything that the next step depends on, on the CPU."""
        return TrainingState(
            weights={name: value.detach().cpu() for name, value in self.state_dict().items()},
            optimizer=self._optimizer().state_dict(),
            counters=self.sums.counters(),
        )

    def load_weights(self, state: TrainingState) -> None:
        """Take the weights of a saved state, pixel statistics included."""
        self.load_state_dict(state.weights)

    def load_training_state(self, state: TrainingState, optimizer: torch.optim.Optimizer) -> None:
        """Go back to a saved state."""
        self.load_weights(state)
        optimizer.load_state_dict(state.optimizer)
        self.sums = EpochSums.of_counters(state.counters)
