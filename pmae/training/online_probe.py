"""Linear classifier that trains beside the model and shows its progress.

It never reaches the model's gradient: its inputs are detached. It sees each feature standardised,
as MAE's linear probe does by a batch norm without weights of its own (arXiv 2111.06377, appendix
A.1): features of a young encoder hardly differ between images, and a classifier on such features
as they are learns next to nothing.

A batch norm would depend on how a batch is cut into parts. Here a step is standardised by moving
averages over the steps before it instead, and adds the moments of its whole batch to them: the
same for any number of parts and devices, the same in training and validation, and all of it part
of a checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LR = 1e-2
RAW_LR = 1e-3
"""Of AdamW, without decay and without a schedule; of features as they are."""
MOMENTUM = 0.1
"""Weight of the newest step in the moving averages, PyTorch's for a batch norm; the first steps
share theirs equally."""
EPSILON = 1e-6
"""Added to the variance, as in MAE's linear probe."""


class OnlineProbe(nn.Linear):
    """Linear classifier on detached features, standardised or as they are.

    Args:
        embed_dim: of the features.
        num_classes: classes or binary labels.
        standardized: False for features as they are, which runs of spec version 1 have.
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
        """Logits ``(n, num_classes)`` of features ``(n, embed_dim)``, in fp32."""
        features = features.detach().float()
        if self.standardized:
            features = (features - self.mean) * (self.var + EPSILON).rsqrt()
        return super().forward(features)

    def moments(self, features: Tensor) -> Tensor:
        """Sums over the images of a part of a step, of the features and then of their squares.

        Args:
            features: ``(n, embed_dim)``.

        Returns:
            ``(2 * embed_dim,)`` float64, empty where nothing is standardised. Those of a step's
            parts add up.
        """
        values = features.detach().double()
        if not self.standardized:
            return values.new_empty(0)
        return torch.cat([values.sum(dim=0), values.square().sum(dim=0)])

    def follow(self, moments: Tensor, images: int, step: int) -> None:
        """Move the averages towards a step's features.

        Args:
            moments: of the step's whole batch, the sum of what :meth:`moments` gives for its parts.
            images: of the whole batch.
            step: from 0.
        """
        if not self.standardized:
            return
        mean, square = (moments / images).chunk(2)
        weight = max(MOMENTUM, 1 / (step + 1))
        # In place: the buffers are replaced under the hands of data-parallel training otherwise.
        self.mean.lerp_(mean.to(self.mean.dtype), weight)
        variance = (square - mean.square()).clamp(min=0)
        self.var.lerp_(variance.to(self.var.dtype), weight)
