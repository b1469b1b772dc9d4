"""What is hidden from the encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pmae.errors import SpecError
from pmae.spec.base import SpecModel, check_range

DEFAULT_PMAE_RATIO = 0.2
DEFAULT_MAE_RATIO = 0.75


class MaskingSpec(SpecModel):
    """What is hidden from the encoder."""

    strategy: Literal["random"] = Field(
        default="random", description="random: components (PMAE) or patches (MAE) drawn uniformly."
    )
    ratio: float | tuple[float, float] | None = Field(
        default=None,
        description="PMAE: share of variance masked (default 0.2). MAE: share of patches masked "
        "(default 0.75). Two numbers: drawn uniformly between them for every batch.",
        examples=[0.2, [0.1, 0.9]],
    )
    scope: Literal["batch", "image"] | None = Field(
        default=None,
        description="PMAE: one mask for the batch (default, as the paper) or one for each image. "
        "MAE draws its patches for each image.",
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
        """``(low, high)``; equal for a fixed ratio. Only on a resolved spec."""
        if self.ratio is None:
            raise ValueError("masking.ratio is not resolved")
        return self.ratio if isinstance(self.ratio, tuple) else (self.ratio, self.ratio)


def resolve_masking(masking: MaskingSpec, method: str) -> MaskingSpec:
    """The masking of a method with every default written out.

    Raises:
        SpecError: the method cannot mask so.
    """
    pmae = method == "pmae"
    if not pmae and masking.scope == "batch":
        raise SpecError(
            "masking.scope: MAE draws its patches for each image; valid is 'image'",
            field=("masking", "scope"),
        )
    ratio = masking.ratio
    if ratio is None:
        ratio = DEFAULT_PMAE_RATIO if pmae else DEFAULT_MAE_RATIO
    scope = masking.scope or ("batch" if pmae else "image")
    return masking.model_copy(update={"ratio": ratio, "scope": scope})
