"""What is hidden from the encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pmae.data.catalog import DATASETS, DatasetFacts, dataset_facts
from pmae.errors import SpecError
from pmae.spec.base import SpecModel, check_range

DEFAULT_PMAE_RATIO = 0.2
DEFAULT_MAE_RATIO = 0.75
DEFAULT_COUNT: Literal["reference", "nearest"] = "reference"

Strategy = Literal["random", "top", "bottom", "block", "segmentation"]
Count = Literal["reference", "nearest"]
SegmentationMode = Literal["complete", "partial", "random"]
STRATEGIES: dict[str, tuple[Strategy, ...]] = {
    "pmae": ("random", "top", "bottom", "block"),
    "mae": ("random", "segmentation"),
}
"""What each method can mask by."""
_COUNT_OF_MAE = "it counts components, and MAE masks patches; leave it out"
_SCOPE_OF_MAE = "MAE draws its patches for each image"


class MaskingSpec(SpecModel):
    """What is hidden from the encoder (docs/masking.md)."""

    strategy: Strategy = Field(
        default="random",
        description="random: components (PMAE) or patches (MAE) drawn uniformly. PMAE: top masks "
        "the components of greatest variance, bottom those of least, block a contiguous run of "
        "the spectrum from a random start. MAE: segmentation masks patches of an object (CLEVR "
        "with object masks).",
        examples=["random", "top", "bottom", "block", "segmentation"],
    )
    ratio: float | tuple[float, float] | None = Field(
        default=None,
        description="PMAE: share of the total variance masked (default 0.2). MAE: share of patches "
        "masked (default 0.75); segmentation: share of the object's patches, for mode partial "
        "only. Two numbers: drawn uniformly between them, for every batch or image as `scope` "
        "says; for random patches always for every batch.",
        examples=[0.2, [0.1, 0.9]],
    )
    count: Count | None = Field(
        default=None,
        description="PMAE: how many components a ratio masks. nearest: as many as come nearest to "
        "it. reference (default): one fewer, at least 1, as in the paper's public code, which "
        "practically never masks a component that holds more than the ratio.",
    )
    scope: Literal["batch", "image"] | None = Field(
        default=None,
        description="PMAE: one mask for the batch (default, as the paper) or one for each image, "
        "the ratio of a range included; top and bottom differ between images only where the "
        "ratio is a range. MAE draws its patches for each image.",
    )
    mode: SegmentationMode | None = Field(
        default=None,
        description="Segmentation only, of one object drawn from those in sight. complete "
        "(default): all of its patches. partial: the share `ratio` of them. random: as many "
        "patches as it covers, drawn from the whole image.",
        examples=["complete"],
    )

    @field_validator("ratio")
    @classmethod
    def _valid(
        cls, ratio: float | tuple[float, float] | None
    ) -> float | tuple[float, float] | None:
        for value in ratio if isinstance(ratio, tuple) else (ratio,):
            if value is not None and not 0.0 < value < 1.0:
                raise PydanticCustomError(
                    "ratio_out_of_range",
                    "{value} is not a ratio; valid is a number above 0 and below 1",
                    {"value": value},
                )
        if isinstance(ratio, tuple):
            check_range(ratio)
        return ratio

    @property
    def ratio_range(self) -> tuple[float, float]:
        """``(low, high)``; equal for a fixed ratio. Only on a resolved spec that has a ratio."""
        if self.ratio is None:
            raise ValueError("masking.ratio is not resolved, or its mode takes none")
        return self.ratio if isinstance(self.ratio, tuple) else (self.ratio, self.ratio)

    @property
    def needs_object_masks(self) -> bool:
        """Whether the images must come with the masks of their objects."""
        return self.strategy == "segmentation"


def strategies(method: str, dataset: str) -> tuple[Strategy, ...]:
    """What a method can mask by on the data set of this name."""
    objects = dataset_facts(dataset).object_masks
    return tuple(s for s in STRATEGIES[method] if s != "segmentation" or objects)


def resolve_masking(masking: MaskingSpec, method: str, dataset: DatasetFacts) -> MaskingSpec:
    """The masking of a method with every default written out.

    Raises:
        SpecError: the method or the data set cannot be masked so, or a field says nothing.
    """
    if masking.strategy not in STRATEGIES[method]:
        raise _error(
            "strategy",
            f"{method} does not mask by {masking.strategy}; valid for it are "
            + ", ".join(STRATEGIES[method]),
        )
    if masking.strategy == "segmentation":
        return _resolve_segmentation(masking, dataset)
    if masking.mode is not None:
        raise _error(
            "mode", f"only segmentation has modes, {masking.strategy} has none; leave it out"
        )
    pmae = method == "pmae"
    if not pmae and masking.scope == "batch":
        raise _error("scope", f"{_SCOPE_OF_MAE}; valid is 'image'")
    ratio = masking.ratio
    if ratio is None:
        ratio = DEFAULT_PMAE_RATIO if pmae else DEFAULT_MAE_RATIO
    if not pmae and masking.count is not None:
        raise _error("count", _COUNT_OF_MAE)
    count = (masking.count or DEFAULT_COUNT) if pmae else None
    scope = masking.scope or ("batch" if pmae else "image")
    fixed = not isinstance(ratio, tuple) or ratio[0] == ratio[1]
    if masking.strategy in ("top", "bottom") and scope == "image" and fixed:
        raise _error(
            "scope",
            f"{masking.strategy} with a fixed ratio masks the same components of every image; "
            "valid is 'batch', or a range of ratios [low, high] to draw from for each image",
        )
    return masking.model_copy(update={"ratio": ratio, "count": count, "scope": scope})


def _resolve_segmentation(masking: MaskingSpec, dataset: DatasetFacts) -> MaskingSpec:
    if not dataset.object_masks:
        having = ", ".join(name for name, facts in DATASETS.items() if facts.object_masks)
        raise _error(
            "strategy",
            f"segmentation needs a data set with object masks, and {dataset.name} has none; "
            f"valid is {having}",
        )
    if masking.scope == "batch":
        raise _error("scope", f"{_SCOPE_OF_MAE}; valid is 'image'")
    if masking.count is not None:
        raise _error("count", _COUNT_OF_MAE)
    mode, ratio = masking.mode or "complete", masking.ratio
    if mode == "partial":
        ratio = DEFAULT_MAE_RATIO if ratio is None else ratio
    elif ratio is not None:
        raise _error(
            "ratio",
            f"the object decides how many patches mode {mode} masks; leave it out, or set "
            "masking.mode to partial",
        )
    return masking.model_copy(update={"mode": mode, "ratio": ratio, "scope": "image"})


def _error(field: str, message: str) -> SpecError:
    return SpecError(f"masking.{field}: {message}", field=("masking", field))
