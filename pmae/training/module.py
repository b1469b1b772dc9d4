"""Pretraining, with Lightning as the loop over the remaining steps.

Lightning sees one epoch whose batches are micro-step numbers; epochs, learning rate, order, crops
and masks are functions of (seed, step). A process that resumes at step 640, even within an epoch,
computes exactly what an uninterrupted one does, from only the weights, the optimiser state and the
epoch's running sums.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed

from pmae.data.images import ImageData
from pmae.data.transforms.standardize import PixelStatistics
from pmae.methods.base import MaskSample, Method, Score
from pmae.methods.losses import classification_loss, correct_predictions
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.runs.checkpoints import TrainingState
from pmae.runtime.transfer import LateLoss, host_copy
from pmae.schedules import warmup_cosine
from pmae.seeding import generator
from pmae.spec import ExperimentSpec
from pmae.training.batches import Feed
from pmae.training.environment import autocast
from pmae.training.epoch_sums import EpochSums, step_sums
from pmae.training.online_probe import OnlineProbe
from pmae.training.plan import StepPlan


class PretrainModule(pl.LightningModule):
    """The model, the online probe and one training step.

    Args:
        spec: resolved spec.
        data: the run's images.
        statistics: pixel statistics of the train split.
        method: method, with its basis on the device that trains.
        rank: rank of this process, from 0, among those that share a batch.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        spec: ExperimentSpec,
        data: ImageData,
        statistics: PixelStatistics,
        method: Method,
        *,
        rank: int = 0,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.data = data
        self.method = method
        self.rank = rank
        self.plan = StepPlan.of(spec, len(data.train))
        self._feed = Feed(spec, self.plan, data.train, method, rank)
        self.model = MaskedAutoencoder.of(spec, data.image_shape[0])
        self.probe = OnlineProbe(
            self.model.encoder.embed_dim,
            data.num_classes,
            standardized=spec.monitor.online_probe == "standardized",
        )
        self.register_buffer("pixel_mean", statistics.mean)
        self.register_buffer("pixel_std", statistics.std)
        self.sums = EpochSums(method.bands.names)
        self.loss = LateLoss()
        self._step_sums: Tensor | None = None
        self.last_draw: MaskSample | None = None

    # What a step computes

    def training_step(self, micro_step: int) -> Tensor:
        """Compute one part of a step: the masked loss plus the online probe's loss.

        The two losses share no gradient. The gradients of all parts add up to the whole batch's:
        Lightning averages over micro-steps and DDP over devices, so that a part is weighted by its
        fraction of the entries in the batch's mean, times the number of parts.

        Args:
            micro_step: micro-step of the run, from 0.

        Raises:
            NonFiniteLossError: the loss of the previous batch was NaN or infinite.
        """
        part = self._feed.part(micro_step, self.device)
        pixels = part.augmentation.apply(part.batch.images)
        score, features = self._score(self._standardize(pixels), part.masked)
        logits, labels = self.probe(features), part.batch.labels
        probe_loss = classification_loss(logits, labels)
        correct = correct_predictions(logits, labels)
        of_images, of_masked = part.share_of_images, part.share_of_masked
        loss_weight = of_masked * self.plan.images_per_step
        sums = step_sums(score, loss_weight, correct, probe_loss, len(pixels))
        sums = torch.cat([sums, self.probe.moments(features)])
        self._step_sums = sums if self._step_sums is None else self._step_sums + sums
        if self.plan.ends_step(micro_step):
            self._end_step(micro_step // self.plan.accumulate_steps, part.draw)
        return (score.loss * of_masked + probe_loss * of_images) * self.plan.num_parts

    def _end_step(self, step: int, draw: MaskSample) -> None:
        """Add up the sums of a step's parts over all devices."""
        assert self._step_sums is not None
        sums, self._step_sums = self._step_sums, None
        if self.plan.devices > 1:
            distributed.all_reduce(sums)
        sums, moments = sums.tensor_split([len(self.sums.values)])
        self.probe.follow(moments, self.plan.images_per_step, step)
        self.last_draw = draw
        # Only the first device reads the loss; when it stops, so do the others.
        if self.rank == 0:
            self.loss.put(step + 1, sums[0] / self.plan.images_per_step)
        self.sums.add(sums)

    def _score(self, images: Tensor, masked: Tensor) -> tuple[Score, Tensor]:
        """Return the masked loss, and CLS tokens ``(batch, embed_dim)`` of the encoder's input."""
        masked_images = self.method.project(images, masked)
        with self._autocast():
            prediction, cls = self.method.predict(self.model, masked_images)
        return self.method.score(prediction.float(), masked_images), cls

    def _whole_features(self, images: Tensor) -> Tensor:
        """Return CLS tokens ``(batch, embed_dim)`` of unmasked images."""
        with self._autocast():
            tokens: Tensor = self.model.encoder(images)
        return tokens[:, 0]

    def _autocast(self) -> AbstractContextManager[None]:
        return autocast(self.spec.precision, self.device)

    def _standardize(self, pixels: Tensor) -> Tensor:
        return PixelStatistics(self.pixel_mean, self.pixel_std).standardize(pixels)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Compute loss and online probe on the validation split, with the same masks each epoch.

        A probe on standardised features classifies whole images, as evaluations do; one on raw
        features (spec version 1) classifies the visible parts.
        """
        self.eval()
        sums = EpochSums(self.method.bands.names)
        for index, held in enumerate(self.data.val.in_order(self.spec.batch_size)):
            batch = held.to(self.device)
            images = self._standardize(batch.images / 255)
            noise = generator(self.spec.seed, "val", index)
            draw = self.method.draw(len(images), self.spec.masking, noise, batch.object_masks)
            score, features = self._score(images, draw.masked)
            if self.probe.standardized:
                features = self._whole_features(images)
            logits = self.probe(features)
            probe_loss = classification_loss(logits, batch.labels)
            correct = correct_predictions(logits, batch.labels)
            sums.add(step_sums(score, len(images), correct, probe_loss, len(images)))
        self.train()
        return sums.means("val", self.probe_accuracy)

    @property
    def probe_accuracy(self) -> str:
        """Name of the probe's metric: ``top1``, or ``accuracy`` with several binary labels."""
        return "accuracy" if self.data.multi_label else "top1"

    # Optimiser and learning rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make AdamW with three groups: with decay, without (biases and norms), online probe."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        peak = self.spec.peak_lr(self.plan.images_per_step)
        decay = self.spec.optimizer.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay, "lr": peak},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "lr": peak},
            {"params": list(self.probe.parameters()), "weight_decay": 0.0, "lr": self.probe.lr},
        ]
        fused = self.spec.optimizer.implementation == "fused"
        return torch.optim.AdamW(
            groups, betas=self.spec.optimizer.betas, fused=fused, foreach=not fused
        )

    def learning_rate(self, step: int) -> float:
        """Return the model's learning rate at step ``step`` (from 0)."""
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
        """Copy all state that the next step depends on to the CPU."""
        weights = dict(self.state_dict())
        weights, optimizer = host_copy((weights, self._optimizer().state_dict()))
        return TrainingState(weights, optimizer, self.sums.counters())

    def load_weights(self, state: TrainingState) -> None:
        """Load the weights of a saved state, pixel statistics included."""
        self.load_state_dict(state.weights)

    def load_training_state(self, state: TrainingState, optimizer: torch.optim.Optimizer) -> None:
        """Load a saved state: weights, optimiser state and running sums."""
        self.load_weights(state)
        optimizer.load_state_dict(state.optimizer)
        self.sums = EpochSums(self.method.bands.names, state.counters)
