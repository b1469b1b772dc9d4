"""Specs of optimiser, learning rate schedule and augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pmae.errors import SpecError
from pmae.spec.base import SpecModel, check_range, divisors

PAPER_WARMUP_EPOCHS = 40
PAPER_WARMUP_FRACTION = 0.05
"""The paper warms up for 40 of its 800 epochs; shorter runs warm up for the same fraction."""


CropArea = Annotated[float, Field(gt=0, le=1)]


class OptimizerSpec(SpecModel):
    """AdamW as in MAE: the learning rate is ``base_lr`` times the batch size over 256."""

    name: Literal["adamw"] = "adamw"
    base_lr: float = Field(default=1.5e-4, gt=0, le=10, description="For a batch of 256.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.9, 0.95)
    )
    weight_decay: float = Field(default=0.05, ge=0, le=10)
    lr_batch_size: int | None = Field(
        default=None,
        gt=0,
        le=65_536,
        description="Batch size that the learning rate is computed from; default: the images of a "
        "step, which are batch_size, or all training images if there are fewer.",
    )
    implementation: Literal["fused", "foreach"] = Field(
        default="fused",
        description="AdamW's kernel. The two differ in the last bits of results.",
    )


class ScheduleSpec(SpecModel):
    """Linear warm-up, then cosine to 0, step by step."""

    warmup_epochs: float | None = Field(
        default=None, ge=0, description="Default: 5 % of the epochs (the paper's 40 of 800)."
    )


class AugmentationSpec(SpecModel):
    """RandomResizedCrop (antialiased bicubic) and horizontal flip."""

    crop_scale: tuple[CropArea, CropArea] = Field(
        default=(0.2, 1.0), description="Range of the crop's fraction of the area; (1, 1): no crop."
    )
    crop_ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        default=(3 / 4, 4 / 3), description="Range of the crop's aspect ratio."
    )
    horizontal_flip: bool | None = Field(
        default=None, description="Default: true where a mirrored image keeps its class."
    )

    @field_validator("crop_scale", "crop_ratio")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return check_range(value)


def check_parts(batch_size: int, accumulate_steps: int, devices: int) -> None:
    """Refuse a batch that cannot be split into equal parts.

    Args:
        batch_size: images of an optimiser step.
        accumulate_steps: parts that a device processes one after the other.
        devices: number of devices that share the batch.

    Raises:
        SpecError: names the field to change.
    """
    if batch_size % devices:
        raise SpecError(
            f"devices: {devices} cannot share a batch_size of {batch_size} equally; expected one "
            f"of {divisors(batch_size, 64)}",
            field=("devices",),
        )
    images = batch_size // devices
    if images % accumulate_steps:
        raise SpecError(
            f"accumulate_steps: a device's {images} images of a batch cannot be split into "
            f"{accumulate_steps} equal parts; expected one of {divisors(images, 1024)}",
            field=("accumulate_steps",),
        )


def check_images_per_part(images: int, accumulate_steps: int, devices: int) -> None:
    """Refuse a batch of fewer images than parts.

    Args:
        images: of a step.
        accumulate_steps: as in :func:`check_parts`.
        devices: as in :func:`check_parts`.

    Raises:
        SpecError: names the field to change.
    """
    if images < accumulate_steps * devices:
        field = "accumulate_steps" if accumulate_steps > 1 else "devices"
        raise SpecError(
            f"{field}: a batch of {images} images cannot be split into "
            f"{accumulate_steps * devices} parts",
            field=(field,),
        )


def resolve_schedule(schedule: ScheduleSpec, epochs: int) -> ScheduleSpec:
    """Fill in the warm-up of a run of ``epochs``.

    Raises:
        SpecError: the warm-up is longer than the run.
    """
    warmup = schedule.warmup_epochs
    if warmup is None:
        warmup = min(PAPER_WARMUP_EPOCHS, PAPER_WARMUP_FRACTION * epochs)
    elif warmup > epochs:
        raise SpecError(
            f"schedule.warmup_epochs: {warmup} is more than the {epochs} epochs of the run",
            field=("schedule", "warmup_epochs"),
        )
    return ScheduleSpec(warmup_epochs=warmup)


def resolve_augmentation(augmentation: AugmentationSpec, flip: bool) -> AugmentationSpec:
    """Fill in the data set's default for ``horizontal_flip``."""
    if augmentation.horizontal_flip is not None:
        return augmentation
    return augmentation.model_copy(update={"horizontal_flip": flip})
