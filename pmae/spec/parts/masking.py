"""Spec of the masking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pmae.errors import SpecError
from pmae.spec.base import PartsName, SpecModel, check_range
from pmae.spec.catalog import DATASETS, DatasetFacts, dataset_facts

Strategy = Literal["random", "top", "bottom", "block", "segmentation"]
Count = Literal["reference", "nearest"]
RatioOf = Literal["variance", "components"]
Predicted = Literal["background", "object"]
SegmentationMode = Literal["complete", "partial", "random"]
RATIO_MODES: dict[Predicted, tuple[SegmentationMode, ...]] = {
    "background": ("partial", "random"),
    "object": ("partial",),
}
"""Modes of segmentation that take a ratio, by ``predict``."""


class MaskingSpec(SpecModel):
    """Masking: which components or patches are hidden from the encoder (docs/masking.md)."""

    strategy: Strategy = Field(
        default="random",
        description="random: components (PMAE) or patches (MAE) drawn uniformly. PMAE: top masks "
        "the components of largest variance, bottom those of smallest, block a contiguous range of "
        "the spectrum from a random start. MAE: segmentation masks patches by the objects that "
        "they show, as `predict` says (CLEVR with object masks).",
        examples=["random", "top", "bottom", "block", "segmentation"],
    )
    ratio: float | tuple[float, float] | None = Field(
        default=None,
        description="PMAE: fraction masked (default 0.2), of what `ratio_of` says. MAE: fraction "
        "of patches masked (default 0.75); segmentation: fraction of the objects' patches masked, "
        "for the modes that take one. Two numbers: drawn uniformly between them, for each batch or "
        "image as `scope` says; for random patches always for each batch.",
        examples=[0.2, [0.1, 0.9]],
    )
    ratio_of: RatioOf | None = Field(
        default=None,
        description="PMAE: what the ratio is a fraction of. variance (default): the total "
        "variance. components: their number.",
    )
    count: Count | None = Field(
        default=None,
        description="PMAE: how many components make up a fraction of the variance. nearest: the "
        "number that comes nearest to it. reference (default): one fewer, at least 1, as in the "
        "paper's public code, which hardly ever masks a component that holds more than the ratio.",
    )
    scope: Literal["batch", "image"] | None = Field(
        default=None,
        description="PMAE: draw one mask for the batch (default, as in the paper) or one for each "
        "image, and so the ratio if it is a range; top and bottom differ between images only "
        "then. MAE always draws its patches for each image.",
    )
    predict: Predicted | None = Field(
        default=None,
        description="Segmentation only: what is masked and predicted. background (default, as the "
        "paper's public code): the encoder sees patches of objects only. object: patches of one "
        "object are masked, and the encoder sees the others.",
    )
    mode: SegmentationMode | None = Field(
        default=None,
        description="Segmentation only. With predict background: complete (default) shows every "
        "patch of every object; partial also masks the fraction `ratio` of the objects' patches, "
        "but shows at least one patch of each object; random masks that fraction without this "
        "guarantee. With predict object, for one object drawn from those visible: complete masks "
        "all its patches, partial the fraction `ratio` of them, random as many patches as it "
        "covers, drawn from the whole image.",
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
                    "{value} is not a ratio; expected a number above 0 and below 1",
                    {"value": value},
                )
        if isinstance(ratio, tuple):
            check_range(ratio)
        return ratio

    @property
    def ratio_range(self) -> tuple[float, float]:
        """``(low, high)``, equal for a fixed ratio. Only on a resolved spec that has a ratio."""
        if self.ratio is None:
            raise ValueError("masking.ratio is not resolved, or its mode takes none")
        return self.ratio if isinstance(self.ratio, tuple) else (self.ratio, self.ratio)

    @property
    def needs_object_masks(self) -> bool:
        """True if the images must come with masks of their objects."""
        return self.strategy == "segmentation"


def on_dataset(strategies: Sequence[Strategy], dataset: str) -> tuple[Strategy, ...]:
    """Select the strategies that are available on the data set of this name."""
    objects = dataset_facts(dataset).object_masks
    return tuple(s for s in strategies if s != "segmentation" or objects)


def masking_like(masking: MaskingSpec, trained: MaskingSpec) -> MaskingSpec:
    """Fill in ``ratio_of``, ``count`` and ``predict`` from the masking of a trained run.

    So a ratio means what it meant in training, and objects are masked as they were.

    Args:
        masking: as its author wrote it.
        trained: resolved.
    """
    updates: dict[str, Any] = {}
    ratio_of = masking.ratio_of
    if ratio_of is None and masking.count is None:
        updates["ratio_of"] = ratio_of = trained.ratio_of
    if masking.count is None and ratio_of != "components":
        updates["count"] = trained.count
    if masking.strategy == "segmentation" and masking.predict is None:
        updates["predict"] = trained.predict
    return masking.model_copy(update=updates)


def resolve_masking(
    masking: MaskingSpec,
    dataset: DatasetFacts,
    *,
    title: str,
    parts: PartsName,
    strategies: tuple[Strategy, ...],
    default: MaskingSpec,
) -> MaskingSpec:
    """Fill in the defaults of a method's masking.

    Args:
        masking: as its author wrote it.
        dataset: to be masked.
        title: name of the method for people.
        parts: that the method masks.
        strategies: of the method.
        default: of the method, for the fields that ``masking`` leaves out.

    Raises:
        SpecError: the method or the data set lacks the strategy, or a field has no effect.
    """
    if "strategy" not in masking.model_fields_set and masking.strategy != default.strategy:
        masking = masking.model_copy(update={"strategy": default.strategy})
    if masking.strategy not in strategies:
        raise _error(
            "strategy",
            f"{title} has no strategy {masking.strategy}; expected one of " + ", ".join(strategies),
        )
    if parts == "patches":
        _check_patches(masking, title)
    if masking.strategy == "segmentation":
        return _resolve_segmentation(masking, dataset, default)
    for field in ("mode", "predict"):
        if getattr(masking, field) is not None:
            raise _error(
                field, f"it belongs to segmentation, not to {masking.strategy}; leave it out"
            )
    if parts == "patches":
        ratio = default.ratio if masking.ratio is None else masking.ratio
        return masking.model_copy(update={"ratio": ratio, "scope": "image"})
    return _resolve_components(masking, default)


def _check_patches(masking: MaskingSpec, title: str) -> None:
    for field in ("count", "ratio_of"):
        if getattr(masking, field) is not None:
            raise _error(field, f"it is about components, and {title} masks patches; leave it out")
    if masking.scope == "batch":
        raise _error("scope", f"{title} draws its patches for each image; expected 'image'")


def _resolve_components(masking: MaskingSpec, default: MaskingSpec) -> MaskingSpec:
    ratio = default.ratio if masking.ratio is None else masking.ratio
    count, by_default = masking.count, default.ratio_of or "variance"
    ratio_of = masking.ratio_of or ("variance" if count else by_default)
    if ratio_of == "variance":
        count = count or default.count or "reference"
    elif count is not None:
        raise _error(
            "count",
            "a fraction of the number of components needs no rule; leave it out, or set "
            "masking.ratio_of to variance",
        )
    scope = masking.scope or default.scope or "batch"
    fixed = not isinstance(ratio, tuple) or ratio[0] == ratio[1]
    if masking.strategy in ("top", "bottom") and scope == "image" and fixed:
        raise _error(
            "scope",
            f"{masking.strategy} with a fixed ratio masks the same components of every image; "
            "expected 'batch', or a range of ratios [low, high] to draw from for each image",
        )
    updates = {"ratio": ratio, "ratio_of": ratio_of, "count": count, "scope": scope}
    return masking.model_copy(update=updates)


def _resolve_segmentation(
    masking: MaskingSpec, dataset: DatasetFacts, default: MaskingSpec
) -> MaskingSpec:
    if not dataset.object_masks:
        having = ", ".join(name for name, facts in DATASETS.items() if facts.object_masks)
        raise _error(
            "strategy",
            f"segmentation needs a data set with object masks, and {dataset.name} has none; "
            f"expected {having}",
        )
    predict, mode = masking.predict or "background", masking.mode or "complete"
    taking, ratio = RATIO_MODES[predict], masking.ratio
    if mode in taking:
        ratio = default.ratio if ratio is None else ratio
    elif ratio is not None:
        raise _error(
            "ratio",
            f"mode {mode} masks as many patches as the objects cover; leave it out, or set "
            f"masking.mode to {' or '.join(taking)}",
        )
    updates = {"predict": predict, "mode": mode, "ratio": ratio, "scope": "image"}
    return masking.model_copy(update=updates)


def _error(field: str, message: str) -> SpecError:
    return SpecError(f"masking.{field}: {message}", field=("masking", field))
