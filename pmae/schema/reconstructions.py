"""What goes over the wire for reconstructions; :mod:`pmae.schema` offers it with all the rest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pmae.spec import MaskingSpec
from pmae.spec.base import PartsName

MOST_RESIDUALS = 2048
"""Residuals that an answer holds; of 12,288 components the rest has hardly any variance."""
MOST_IMAGES = 32
"""Images in one request."""
MOST_IMAGE_BYTES = 16 * 2**20
"""Of an uploaded image's file."""
MOST_IMAGE_PIXELS = 50_000_000
"""Of an uploaded image, before it is scaled: decoding it takes up to 200 MB of memory."""
IMAGE_FORMATS = ("PNG", "JPEG", "WebP", "BMP", "GIF", "TIFF")
"""What may be uploaded."""
_EXAMPLE_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNkEIIAJiGKGACfigR+wbJOAwAA"
    "AABJRU5ErkJggg=="
)
"""A PNG of 8 x 8 pixels."""
_Index = Annotated[int, Field(ge=0)]
_Parts = list[_Index | tuple[_Index, _Index]]
_Selection = Annotated[_Parts, Field(min_length=1, max_length=10_000, examples=[[[0, 9], 12]])]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ImageChoice(_Request):
    """Images of the run's data set."""

    split: Literal["train", "val", "test"] | None = Field(
        default=None, description="Default: val, or test where `dataset.val` of the run is none."
    )
    indices: list[int] = Field(
        default=[0, 1, 2, 3, 4, 5, 6, 7],
        min_length=1,
        max_length=MOST_IMAGES,
        description="From 0.",
    )


class UploadedImages(_Request):
    """Images that the request brings along. They are not kept.

    Each is made what the run's own images are: oblong ones lose their ends (or are squeezed, where
    the data set's are), then they are scaled to the run's resolution by an antialiased bicubic
    filter and made grey or RGB. EXIF orientation is applied, what is transparent gets a white
    background, of 16 bits the upper 8 count, and of an animation the first picture.
    """

    uploaded: list[Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]] = Field(
        min_length=1,
        max_length=MOST_IMAGES,
        description=f"Image files ({', '.join(IMAGE_FORMATS)}) in base64, each of up to "
        f"{MOST_IMAGE_BYTES // 2**20} MiB and {MOST_IMAGE_PIXELS:,} pixels.",
        examples=[[_EXAMPLE_PNG]],
    )

    @model_validator(mode="before")
    @classmethod
    def _no_others(cls, value: Any) -> Any:
        both = [
            name for name in ImageChoice.model_fields if isinstance(value, dict) and name in value
        ]
        if both:
            raise PydanticCustomError(
                "two_kinds_of_images",
                "images are either uploaded or of the run's data set, and this names uploaded and "
                "{names}; valid is one of the two",
                {"names": " and ".join(both)},
            )
        return value


def _kind_of_images(value: Any) -> str:
    is_uploaded = "uploaded" in value if isinstance(value, dict) else hasattr(value, "uploaded")
    return UploadedImages.__name__ if is_uploaded else ImageChoice.__name__


Images = Annotated[
    Annotated[ImageChoice, Tag(ImageChoice.__name__)]
    | Annotated[UploadedImages, Tag(UploadedImages.__name__)],
    Discriminator(_kind_of_images),
]
"""Which images: of the run's data set, or uploaded ones."""


class ReconstructionRequest(_Request):
    """Which images to reconstruct under which mask: a drawn one (`masking`), or a given one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"masking": {"strategy": "top", "ratio": 0.4}, "seed": 7},
                {"images": {"split": "test", "indices": [3, 5]}, "components": [[0, 9], 12]},
                {"images": {"uploaded": [_EXAMPLE_PNG]}, "masking": {"ratio": 0.4}},
            ]
        }
    )

    images: Images = Field(
        default=ImageChoice(),
        description="Of the run's data set (`split`, `indices`), or files that come along "
        "(`uploaded`). Default: the first eight of the val split.",
    )
    masking: MaskingSpec | None = Field(
        default=None,
        description="Draw what is masked. Any strategy of the run's method, not only the one it "
        "was trained with. Default: as the run was trained; a range is drawn from. `count`, "
        "`ratio_of` and `predict` that are not named are the run's own.",
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


_Explained = Annotated[
    float | None,
    Field(
        description="Share of the masked variance that is explained: 1 - sum (prediction - "
        "target)^2 / sum target^2 over what is masked. 1 is perfect, 0 is what predicting nothing "
        "gives, below 0 is worse. Null if what is masked has no variance.",
        examples=[0.42],
    ),
]
_ExplainedByBand = Annotated[
    dict[str, float],
    Field(
        description="PMAE: the same for each band of the spectrum of which anything is masked, by "
        "the per cents of the total variance from which to which it goes (docs/training.md).",
        examples=[{"0_50": 0.61, "50_80": 0.33, "80_95": 0.08, "95_100": -0.02}],
    ),
]


class ReconstructedImage(_Answer):
    """One image's panels, each a PNG in base64 at its native size."""

    index: int = Field(description="In its split, or in `uploaded`; from 0.")
    label: str | None = Field(
        description="What it shows: its class; null of an uploaded image, of which none is known."
    )
    panels: dict[str, str] = Field(
        description="original, visible, target, prediction, full, error (docs/reconstructions.md)"
    )
    masked_error: float = Field(
        description="Mean square of prediction minus target over what is masked of this image, "
        "standardised: its loss, unless the run's `loss` divides that."
    )
    explained_variance: _Explained = None
    explained_variance_by_band: _ExplainedByBand = {}
    masked: _Parts | None = Field(
        default=None,
        description="What is masked in this image, where the images' masks differ; else null, and "
        "`masked` of the answer says it.",
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
    parts: PartsName = Field(description="What the method masks.")
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
    masked: _Parts | None = Field(
        default=None,
        description="What is masked in every image: numbers from 0, and ranges [first, last] that "
        "hold both ends. Sent as `components` (PMAE) or `patches` (MAE) it is the same mask. Null "
        "if the images' masks differ: then each image has its own.",
        examples=[[[0, 9], 12]],
    )
    explained_variance: _Explained = None
    explained_variance_by_band: _ExplainedByBand = {}
    images: list[ReconstructedImage]
    residuals: Residuals
