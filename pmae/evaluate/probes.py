"""Linear and MLP probes: a small classifier on frozen features (arXiv 2111.06377, appendix A.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pmae.evaluate.classifier import Batches, Plan, Tick, augmented, seeded, train_classifier
from pmae.evaluate.curve import EpochCurve
from pmae.evaluate.features import Features, encode, frozen, standardization
from pmae.evaluate.subject import Target
from pmae.models.autoencoder import Encoder
from pmae.spec import LinearProbeSpec, MlpProbeSpec
from pmae.spec.parts.evaluation import warmup_epochs
from pmae.training.environment import Precision

ProbeSpec = LinearProbeSpec | MlpProbeSpec
_MOMENTUM = 0.9


class ProbeHeads(nn.Module):
    """One classifier for each layer, on standardised features if ``spec.standardize``.

    Args:
        spec: of the classifier.
        train: the training images' features, for the statistics of standardisation.
        num_classes: number of classes, or of binary labels.
        hidden_dim: width of the two hidden layers of an MLP.
        seed: of an MLP's initial weights; a linear classifier is initialised to zero.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, spec: ProbeSpec, train: Features, *, num_classes: int, hidden_dim: int, seed: int
    ) -> None:
        super().__init__()
        values = train.values
        layers, _, dim = values.shape
        mean, std = torch.zeros(layers, 1, dim), torch.ones(layers, 1, dim)
        if spec.standardize:
            mean, std = standardization(values)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        make = _linear if spec.protocol == "linear" else _mlp
        # Every head has the same initial weights, as if it were the only one.
        self.heads = nn.ModuleList(
            seeded(seed, lambda: make(dim, hidden_dim, num_classes)) for _ in range(layers)
        )

    def standardized(self, values: Tensor) -> Tensor:
        """Standardise features ``(layers, n, dim)`` for the classifiers."""
        return (values - self.mean) / self.std

    def forward(self, standardized: Tensor) -> Tensor:
        """Map standardised features ``(layers, n, dim)`` to logits ``(layers, n, num_classes)``."""
        pairs = zip(self.heads, standardized, strict=True)
        return torch.stack([head(values) for head, values in pairs])

    @torch.no_grad()
    def predict_last(self, features: Features) -> Tensor:
        """Compute the last layer's logits ``(n, num_classes)``, on the CPU."""
        values = features.values[-1].to(self.mean.device)
        logits: Tensor = self.heads[-1]((values - self.mean[-1]) / self.std[-1])
        return logits.cpu()

    @torch.no_grad()
    def predict(self, features: Features) -> Tensor:
        """Compute the logits ``(layers, n, num_classes)`` of features, both on the CPU."""
        device = self.mean.device
        values: Tensor = self(self.standardized(features.values.to(device)))
        return values.cpu()


def fit_cached(
    heads: ProbeHeads,
    train: Features,
    spec: ProbeSpec,
    seed: int,
    tick: Tick,
    curve: EpochCurve,
) -> None:
    """Train on cached features."""
    plan = _plan(spec, train.values.shape[1])
    values = heads.standardized(train.values)

    def batches(epoch: int) -> Batches:
        for rows in plan.batches(seed, epoch):
            yield values[:, rows], train.labels[rows]

    _fit(heads, heads, batches, plan, tick, curve)


def fit_encoding(
    heads: ProbeHeads,
    encoder: Encoder,
    target: Target,
    spec: ProbeSpec,
    seed: int,
    tick: Tick,
    curve: EpochCurve,
    precision: Precision,
) -> None:
    """Train on augmented images, encoded again in every epoch.

    The encoder computes in ``precision``, the classifiers in fp32 on the device of ``heads``.
    """
    plan = _plan(spec, len(target.data.train))

    def logits(images: Tensor) -> Tensor:
        with frozen(encoder):
            values = encode(encoder, images, spec.features, spec.layers, precision)
            values = heads.standardized(values)
        outputs: Tensor = heads(values)
        return outputs

    _fit(heads, logits, augmented(target, plan, seed, heads.mean.device), plan, tick, curve)


def _plan(spec: ProbeSpec, num_images: int) -> Plan:
    return Plan(
        num_images=num_images,
        batch_size=spec.batch_size,
        epochs=spec.epochs,
        warmup_epochs=warmup_epochs(spec),
        base_lr=spec.base_lr,
    )


def _fit(
    heads: ProbeHeads,
    logits: Callable[[Tensor], Tensor],
    batches: Callable[[int], Batches],
    plan: Plan,
    tick: Tick,
    curve: EpochCurve,
) -> None:
    optimizer = torch.optim.SGD(heads.parameters(), lr=plan.peak_lr, momentum=_MOMENTUM)
    train_classifier(logits, batches, optimizer, plan, tick, curve)


def _linear(dim: int, _hidden_dim: int, num_classes: int) -> nn.Module:
    layer = nn.Linear(dim, num_classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _mlp(dim: int, hidden_dim: int, num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, num_classes),
    )
