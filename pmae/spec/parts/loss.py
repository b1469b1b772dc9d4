"""What the loss of a method is divided by."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pmae.errors import SpecError
from pmae.spec.base import SpecModel

LossScale = Literal["none", "masked_variance"]
DEFAULT_SCALE: LossScale = "none"


class LossSpec(SpecModel):
    """What the loss is divided by (docs/training.md)."""

    scale: LossScale | None = Field(
        default=None,
        description="PMAE: none (default) as in the paper. masked_variance: the squared error is "
        "divided by the mean eigenvalue of the masked components (of each image's own, with "
        "masking.scope image), so that steps weigh alike whatever they mask.",
        examples=["none", "masked_variance"],
    )
    norm_pix_loss: bool | None = Field(
        default=None,
        description="MAE: predict each patch less its own mean and over its own standard "
        "deviation, as the MAE paper's best models do. Default: false.",
        examples=[False],
    )


def resolve_loss(loss: LossSpec, method: str) -> LossSpec:
    """The loss of a method with every default written out.

    What changes nothing is taken from the other method, so that a spec can change its method.

    Raises:
        SpecError: the other method's loss is asked for.
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
