"""Fine-tuning: all weights and a linear classifier (arXiv 2111.06377, appendix A.1)."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pmae.data.images import Split
from pmae.evaluate.classifier import Plan, Tick, augmented, train_classifier
from pmae.evaluate.curve import EpochCurve
from pmae.evaluate.features import pooled
from pmae.evaluate.subject import Target
from pmae.models.autoencoder import Encoder
from pmae.spec import FinetuneSpec
from pmae.spec.parts.evaluation import Pooling, warmup_epochs
from pmae.training.environment import Precision, autocast

_BATCH = 256


class FinetunedEncoder(nn.Module):
    """A copy of an encoder with a linear classifier that is initialised to zero.

    Args:
        encoder: to copy.
        num_classes: number of classes, or of binary labels.
        pooling: representation of an image.
        precision: of the encoder's products; the classifier computes in fp32.
    """

    def __init__(
        self, encoder: Encoder, num_classes: int, pooling: Pooling, precision: Precision = "fp32"
    ) -> None:
        super().__init__()
        self.encoder = deepcopy(encoder)
        self.encoder.zero_grad(set_to_none=True)
        self.head = nn.Linear(encoder.embed_dim, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.head.to(encoder.cls_token.device)
        self._pooling = pooling
        self._precision = precision

    def forward(self, images: Tensor) -> Tensor:
        """Map standardised images ``(batch, channels, height, width)`` to logits."""
        with autocast(self._precision, images.device):
            tokens = self.encoder(images)
        logits: Tensor = self.head(pooled(tokens, self._pooling))
        return logits


def finetune(
    encoder: Encoder,
    target: Target,
    spec: FinetuneSpec,
    seed: int,
    tick: Tick,
    precision: Precision = "fp32",
) -> tuple[FinetunedEncoder, EpochCurve]:
    """Train a copy of ``encoder`` with a classifier.

    With precision bf16 only the encoder's products are in bf16; weights, gradients, optimiser,
    classifier and loss stay in fp32.

    Returns:
        The copy after the last epoch, and the curve over the epochs.
    """
    plan = Plan(
        num_images=len(target.data.train),
        batch_size=spec.batch_size,
        epochs=spec.epochs,
        warmup_epochs=warmup_epochs(spec),
        base_lr=spec.base_lr,
    )
    with torch.random.fork_rng(devices=[]):
        model = FinetunedEncoder(encoder, target.data.num_classes, spec.features, precision)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.peak_lr, betas=spec.betas, fused=True)
    device = encoder.cls_token.device
    curve = EpochCurve(
        {
            name: (partial(predict, model, target, split, tick), split.labels)
            for name, split in target.data.held_out.items()
        }
    )
    train_classifier(model, augmented(target, plan, seed, device), optimizer, plan, tick, curve)
    return model, curve


def predict(model: FinetunedEncoder, target: Target, split: Split, tick: Tick) -> Tensor:
    """Compute the logits ``(n, num_classes)`` of a split on the CPU, without augmentation.

    The model's mode is restored.
    """
    training = model.training
    device = model.head.weight.device
    statistics = target.statistics.to(device)
    rows: list[Tensor] = []
    model.eval()
    with torch.no_grad():
        for batch in split.in_order(_BATCH):
            tick()
            rows.append(model(statistics.standardize(batch.to(device).images / 255)).cpu())
    model.train(training)
    return torch.cat(rows)
