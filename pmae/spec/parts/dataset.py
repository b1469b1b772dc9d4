"""Spec of a data set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pmae.errors import SpecError
from pmae.spec.base import PositiveInt, SpecModel
from pmae.spec.catalog import dataset_facts


class DatasetSpec(SpecModel):
    """A data set, its resolution and its splits."""

    name: str = Field(
        description="A name that GET /datasets lists, folder:<name> or npz:<name>.",
        examples=["digits"],
    )
    resolution: PositiveInt | None = Field(
        default=None, le=1024, description="Edge length in pixels; default: the data set's."
    )
    max_train_images: PositiveInt | None = Field(
        default=None,
        description="Use only this many training images (a seeded choice, classes balanced).",
    )

    val: Literal["held_out", "none"] = Field(
        default="held_out",
        description="held_out: choose and measure on a validation split, the data set's own or one "
        "held out of its training images. none: train on all training images and measure nothing "
        "on validation images; a validation split in the files is not used.",
    )

    std_floor: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Minimal standard deviation of a pixel that standardisation divides by, where "
        "black is 0 and white is 1: nearly constant pixels would become huge otherwise. Default: "
        "the smallest value, from 0.02, at which augmented training images have at most 1.1 times "
        "unit variance; checkpoints record it in their spec.",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            dataset_facts(name)
        except SpecError as error:
            raise PydanticCustomError(
                "unknown_dataset", "{reason}", {"reason": str(error)}
            ) from error
        return name
