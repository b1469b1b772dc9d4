"""Online probe: a linear classifier trained beside the model, to show its progress.

Its inputs are detached, so that it does not affect the model. Each feature is standardised, as in
MAE's linear probe by a batch norm without affine weights (arXiv 2111.06377, appendix A.1): early in
training features hardly differ between images, and a classifier on raw features learns next to
nothing.

A batch norm would depend on how a batch is split into parts. Instead, a step is standardised by
moving averages over the previous steps, and then adds the moments of its whole batch to them. The
result does not depend on the number of parts and devices, training and validation use the same
averages, and they are part of a checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LR = 1e-2
RAW_LR = 1e-3
"""Learning rate of AdamW, without decay and schedule, on raw features."""
MOMENTUM = 0.1
"""Weight of the newest step in the moving averages, as in PyTorch's batch norm; the first steps
have equal weights."""
EPSILON = 1e-6
"""Added to the variance, as in MAE's linear probe."""


class OnlineProbe(nn.Linear):
    """Linear classifier on detached features, standardised or raw.

    Args:
        embed_dim: dimension of the features.
        num_classes: number of classes or binary labels.
        standardized: False for raw features, as in runs of spec version 1.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, embed_dim: int, num_classes: int, *, standardized: bool) -> None:
        super().__init__(embed_dim, num_classes)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.standardized = standardized
        self.lr = LR if standardized else RAW_LR
        if standardized:
            self.register_buffer("mean", torch.zeros(embed_dim))
            self.register_buffer("var", torch.ones(embed_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Compute fp32 logits ``(n, num_classes)`` of features ``(n, embed_dim)``."""
        features = features.detach().float()
        if self.standardized:
            features = (features - self.mean) * (self.var + EPSILON).rsqrt()
        return super().forward(features)

    def moments(self, features: Tensor) -> Tensor:
        """Sum the features, and their squares, over the images of a part of a step.

        Args:
            features: ``(n, embed_dim)``.

        Returns:
            ``(2 * embed_dim,)`` float64; empty for raw features. The moments of a step are the sum
            over its parts.
        """
        values = features.detach().double()
        if not self.standardized:
            return values.new_empty(0)
        return torch.cat([values.sum(dim=0), values.square().sum(dim=0)])

    def follow(self, moments: Tensor, images: int, step: int) -> None:
        """Update the moving averages with a step's features.

        Args:
            moments: moments of the whole batch: the sum of :meth:`moments` over its parts.
            images: number of images in the whole batch.
            step: number of the step, from 0.
        """
        if not self.standardized:
            return
        mean, square = (moments / images).chunk(2)
        weight = max(MOMENTUM, 1 / (step + 1))
        # In place, since data-parallel training holds references to the buffers.
        self.mean.lerp_(mean.to(self.mean.dtype), weight)
        variance = (square - mean.square()).clamp(min=0)
        self.var.lerp_(variance.to(self.var.dtype), weight)
