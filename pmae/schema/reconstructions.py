"""Models of reconstructions and filmstrips; also exported by :mod:`pmae.schema`."""

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
"""Maximum number of residuals in an answer; further components have hardly any variance."""
MOST_IMAGES = 32
"""Maximum number of images in one request."""
MOST_IMAGE_BYTES = 16 * 2**20
"""Maximum size of an uploaded file."""
MOST_IMAGE_PIXELS = 50_000_000
"""Maximum pixels of an uploaded image before scaling: decoding takes up to 200 MB of memory."""
IMAGE_FORMATS = ("PNG", "JPEG", "WebP", "BMP", "GIF", "TIFF")
"""File formats of uploaded images."""
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
        default=None, description="Default: val, or test if `dataset.val` of the run is none."
    )
    indices: list[int] = Field(
        default=[0, 1, 2, 3, 4, 5, 6, 7],
        min_length=1,
        max_length=MOST_IMAGES,
        description="Indices in the split, from 0.",
    )


class UploadedImages(_Request):
    """Images in the request itself. They are not stored.

    Each is converted to the form of the run's images: centre-cropped to a square (or squeezed, if
    the data set's images are), scaled to the run's resolution with antialiased bicubic
    interpolation, and converted to grey or RGB. EXIF orientation is applied, transparency is shown
    on white, 16-bit values keep their upper 8 bits, and an animation its first frame.
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
                "got uploaded and {names}; expected either uploaded images or images of the run's "
                "data set",
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
"""Images of the run's data set, or uploaded ones."""


class ReconstructionRequest(_Request):
    """Request to reconstruct images under a mask, sampled (`masking`) or given explicitly."""

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
        description="Images of the run's data set (`split`, `indices`), or files in the request "
        "(`uploaded`). Default: the first eight of the val split.",
    )
    masking: MaskingSpec | None = Field(
        default=None,
        description="Sample a mask, with any strategy of the run's method. Default: as in "
        "training, with a ratio sampled from its range. `count`, `ratio_of` and `predict` default "
        "to the run's own.",
    )
    components: _Selection | None = Field(
        default=None,
        description="PMAE: mask exactly these components, in order of descending variance: "
        "numbers from 0, and ranges [first, last] that include both ends. At least one component "
        "must be masked, and one visible. Replaces `masking`.",
    )
    patches: _Selection | None = Field(
        default=None,
        description="MAE: mask exactly these patches, numbered row by row, in the form of "
        "`components`. Replaces `masking`.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of a sampled mask.")

    @field_validator("components", "patches")
    @classmethod
    def _alone(cls, chosen: _Selection | None, info: ValidationInfo) -> _Selection | None:
        if chosen is None:
            return None
        others = [name for name in ("masking", "components") if info.data.get(name) is not None]
        if others:
            raise PydanticCustomError(
                "two_masks",
                "{field} and {other} both set the mask; expected one of the two",
                {"field": info.field_name, "other": others[0]},
            )
        for part in chosen:
            if not isinstance(part, int) and part[0] > part[1]:
                raise PydanticCustomError(
                    "range_reversed",
                    "[{low}, {high}] is not a range; expected [first, last] with first <= last",
                    {"low": part[0], "high": part[1]},
                )
        return chosen


_Explained = Annotated[
    float | None,
    Field(
        description="Explained fraction of the masked variance: 1 - sum (prediction - target)^2 / "
        "sum target^2 over the masked part. 1 is perfect, 0 is as good as predicting zero, below "
        "0 is worse. Null if the masked part has no variance.",
        examples=[0.42],
    ),
]
_ExplainedByBand = Annotated[
    dict[str, float],
    Field(
        description="PMAE: the same for each spectrum band with masked components. A band is named "
        "by its range in per cent of the total variance (docs/training.md).",
        examples=[{"0_50": 0.61, "50_80": 0.33, "80_95": 0.08, "95_100": -0.02}],
    ),
]


class ReconstructedImage(_Answer):
    """Panels of one image, each a PNG in base64 at its native size."""

    index: int = Field(description="Index in its split, or in `uploaded`; from 0.")
    label: str | None = Field(description="Class of the image; null if it was uploaded.")
    panels: dict[str, str] = Field(
        description="original, visible, target, prediction, full, error (docs/reconstructions.md)"
    )
    masked_error: float = Field(
        description="Mean squared error over the masked part of this image, in standardised units: "
        "its loss, unless the run's `loss` divides by the target's variance."
    )
    explained_variance: _Explained = None
    explained_variance_by_band: _ExplainedByBand = {}
    masked: _Parts | None = Field(
        default=None,
        description="Masked parts of this image if the images' masks differ; else null: see "
        "`masked` of the answer.",
    )


class FilmFrame(_Answer):
    """Reconstruction of an image at one step: each panel a PNG in base64 at its native size."""

    step: int
    epoch: int
    prediction: str
    full: str


class Filmstrip(_Answer):
    """Reconstructions of one image under one mask over the run (docs/reconstructions.md)."""

    run_id: str
    image: int = Field(description="Index of the filmed image, from 0.")
    num_images: int = Field(description="Number of filmed images, the first of the val split.")
    label: str
    original: str = Field(description="This and the next two are PNGs in base64.")
    visible: str
    target: str
    total: int = Field(description="Number of stored frames; more than returned if downsampled.")
    frames: list[FilmFrame] = Field(
        description="By ascending step, the first and the last included."
    )


class Residuals(_Answer):
    """Residual of each masked component or patch: parallel arrays, by ascending index.

    Means over the images that mask it, in standardised units. A residual equal to the target is
    that of predicting zero.
    """

    index: list[int] = Field(
        description="Components (PMAE) or patches (MAE) masked in at least one image; the first "
        f"{MOST_RESIDUALS:,}."
    )
    residual: list[float] = Field(
        description="Mean squared error of a component's coordinate, or over a patch's pixels."
    )
    target: list[float] = Field(description="Mean square of the target.")


class Reconstruction(_Answer):
    """Reconstructions of some images under one mask each."""

    checkpoint_id: str
    run_id: str
    step: int
    epoch: float
    method: str
    parts: PartsName = Field(description="Parts of an image that the method masks.")
    seed: int
    ratio: float | None = Field(
        description="Requested ratio; sampled if the masking has a range (mean over the images). "
        "Null if the mask was given, or follows the images' objects."
    )
    masked_share: float = Field(description="Fraction actually masked, of variance or of patches.")
    num_masked: int = Field(
        description="Components (PMAE) or patches (MAE) masked in the first image."
    )
    num_total: int
    masked: _Parts | None = Field(
        default=None,
        description="Masked parts of every image: numbers from 0, and ranges [first, last] that "
        "include both ends. Sent as `components` (PMAE) or `patches` (MAE) they repeat the mask. "
        "Null if the images' masks differ: then each image has its own.",
        examples=[[[0, 9], 12]],
    )
    explained_variance: _Explained = None
    explained_variance_by_band: _ExplainedByBand = {}
    images: list[ReconstructedImage]
    residuals: Residuals
