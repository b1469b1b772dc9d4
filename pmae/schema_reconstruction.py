"""What goes over the wire for reconstructions; :mod:`pmae.schema` offers it with all the rest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pmae.spec import MaskingSpec

MOST_RESIDUALS = 2048
"""Residuals that an answer holds; of 12,288 components the rest has hardly any variance."""
_Index = Annotated[int, Field(ge=0)]
_Selection = Annotated[
    list[_Index | tuple[_Index, _Index]],
    Field(min_length=1, max_length=10_000, examples=[[[0, 9], 12]]),
]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ImageChoice(_Request):
    """Images of the run's data set."""

    split: Literal["train", "val", "test"] = "val"
    indices: list[int] = Field(
        default=[0, 1, 2, 3, 4, 5, 6, 7], min_length=1, max_length=32, description="From 0."
    )


class ReconstructionRequest(_Request):
    """Which images to reconstruct under which mask: a drawn one (`masking`), or a given one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"masking": {"strategy": "top", "ratio": 0.4}, "seed": 7},
                {"images": {"split": "test", "indices": [3, 5]}, "components": [[0, 9], 12]},
            ]
        }
    )

    images: ImageChoice = ImageChoice()
    masking: MaskingSpec | None = Field(
        default=None,
        description="Draw what is masked. Any strategy of the run's method, not only the one it "
        "was trained with. Default: as the run was trained; a range is drawn from.",
    )
    components: _Selection | None = Field(
        default=None,
        description="PMAE: mask exactly these components, in the order of falling variance. "
        "Numbers from 0, and ranges [first, last] that hold both ends; at least one component is "
        "masked and one is not. Takes the place of `masking`.",
    )
    patches: _Selection | None = Field(
        default=None,
        description="MAE: mask exactly these patches, numbered row by row, written as "
        "`components` are. Takes the place of `masking`.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of a drawn mask.")

    @field_validator("components", "patches")
    @classmethod
    def _alone(cls, chosen: _Selection | None, info: ValidationInfo) -> _Selection | None:
        if chosen is None:
            return None
        others = [name for name in ("masking", "components") if info.data.get(name) is not None]
        if others:
            raise PydanticCustomError(
                "two_masks",
                "{field} says what is masked, and so does {other}; valid is one of the two",
                {"field": info.field_name, "other": others[0]},
            )
        for part in chosen:
            if not isinstance(part, int) and part[0] > part[1]:
                raise PydanticCustomError(
                    "range_reversed",
                    "[{low}, {high}] is not a range; valid is [first, last] with first <= last",
                    {"low": part[0], "high": part[1]},
                )
        return chosen


class ReconstructedImage(_Answer):
    """One image's panels, each a PNG in base64 at its native size."""

    index: int
    label: str
    panels: dict[str, str] = Field(
        description="original, visible, target, prediction, full, error (docs/reconstructions.md)"
    )
    masked_error: float = Field(
        description="The loss of this image: mean square over what is masked."
    )


class FilmFrame(_Answer):
    """What the run made of an image by a step: each panel a PNG in base64 at its native size."""

    step: int
    epoch: int
    prediction: str
    full: str


class Filmstrip(_Answer):
    """One image under one mask, as the run learned (docs/reconstructions.md)."""

    run_id: str
    image: int = Field(description="Which of the images, from 0.")
    num_images: int = Field(description="How many images there are, the first of the val split.")
    label: str
    original: str = Field(description="This and the next two are PNGs in base64.")
    visible: str
    target: str
    total: int = Field(description="How many frames there are; more than given if thinned out.")
    frames: list[FilmFrame] = Field(
        description="By rising step, the first and the last among them."
    )


class Residuals(_Answer):
    """What is left of each masked component or patch: parallel arrays, by rising index.

    Means over those of the images that mask it, in standardised units. A residual as large as the
    target is what predicting nothing would leave.
    """

    index: list[int] = Field(
        description="Components (PMAE) or patches (MAE) that are masked in any of the images; the "
        f"first {MOST_RESIDUALS:,}."
    )
    residual: list[float] = Field(
        description="Mean square of prediction minus target: of a component's coordinate, or over "
        "a patch's pixels."
    )
    target: list[float] = Field(description="Mean square of the target.")


class Reconstruction(_Answer):
    """Reconstructions of some images under one mask each."""

    checkpoint_id: str
    run_id: str
    step: int
    epoch: float
    method: str
    seed: int
    ratio: float | None = Field(
        description="The ratio asked for, drawn if the masking gives a range (the images' mean); "
        "null if what is masked was given, or decided by the images' objects."
    )
    masked_share: float = Field(description="The share really masked, of variance or of patches.")
    num_masked: int = Field(
        description="Components (PMAE) or patches (MAE) masked in the first image."
    )
    num_total: int
    images: list[ReconstructedImage]
    residuals: Residuals
