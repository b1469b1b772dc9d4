"""Which images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pmae.errors import SpecError
from pmae.spec.base import PositiveInt, SpecModel
from pmae.spec.catalog import dataset_facts


class DatasetSpec(SpecModel):
    """Which images."""

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
        description="held_out: choices and curves are made on a validation split, the data set's "
        "own or a part of its training images. none: train on all training images, without any "
        "figure on validation images; a validation split that the files bring is not used.",
    )

    std_floor: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Least standard deviation of a pixel that standardisation divides by, where "
        "black is 0 and white is 1: pixels that hardly ever change would blow up otherwise. "
        "Default: the least one, from 0.02, at which augmented training images have at most 1.1 "
        "times unit variance; checkpoints record it in their spec.",
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
