"""Spec of the loss: its scale, and normalised patches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pmae.errors import SpecError
from pmae.spec.base import SpecModel

LossScale = Literal["none", "masked_variance"]
DEFAULT_SCALE: LossScale = "none"


class LossSpec(SpecModel):
    """Scale of the loss (docs/training.md)."""

    scale: LossScale | None = Field(
        default=None,
        description="PMAE: none (default) as in the paper. masked_variance: the squared error is "
        "divided by the mean eigenvalue of the masked components (for each image, with "
        "masking.scope image), so that all steps have similar weight.",
        examples=["none", "masked_variance"],
    )
    norm_pix_loss: bool | None = Field(
        default=None,
        description="MAE: predict each patch normalised by its own mean and standard deviation, as "
        "the MAE paper's best models do. Default: false.",
        examples=[False],
    )


def resolve_loss(loss: LossSpec, method: str) -> LossSpec:
    """Fill in the defaults of a method's loss.

    The other method's field is accepted at its default, so that a spec can change its method.

    Raises:
        SpecError: the other method's field has another value.
    """
    if method == "pmae":
        if loss.norm_pix_loss:
            raise SpecError(
                "loss.norm_pix_loss: it normalises patches, and PMAE predicts components; leave it "
                "out, or set loss.scale to masked_variance",
                field=("loss", "norm_pix_loss"),
            )
        return LossSpec(scale=loss.scale or DEFAULT_SCALE)
    if loss.scale == "masked_variance":
        raise SpecError(
            "loss.scale: it is about the variance of components, and MAE masks patches; leave it "
            "out, or set loss.norm_pix_loss to true",
            field=("loss", "scale"),
        )
    return LossSpec(norm_pix_loss=loss.norm_pix_loss or False)
