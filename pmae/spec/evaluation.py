"""What is asked of the frozen encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pmae.spec.base import PositiveInt, SpecModel


class LinearProbeSpec(SpecModel):
    """A linear classifier on the frozen CLS token, from features extracted once."""

    protocol: Literal["linear"] = "linear"
    epochs: PositiveInt = Field(default=100, le=10_000)
    base_lr: float = Field(default=0.1, gt=0, description="For a batch of 256; SGD, momentum 0.9.")
    batch_size: PositiveInt = Field(default=256, le=65_536)
    warmup_epochs: float = Field(default=10.0, ge=0)
    standardize: bool = Field(
        default=True, description="Standardise each feature by the training features' statistics."
    )
    baselines: tuple[Literal["raw_pixels", "untrained_encoder"], ...] = Field(
        default=(),
        description="Give the same classifier, by the same recipe, these features too.",
    )
