"""Spec of the loss: its scale, and normalised patches."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pmae.errors import SpecError
from pmae.spec.base import PartsName, SpecModel

LossScale = Literal["none", "masked_variance"]


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


_NEUTRAL = {"scale": "none", "norm_pix_loss": False}
"""By field: the value that has no effect."""
_ABOUT = {
    "scale": ("components", "it is about the variance of components", "norm_pix_loss to true"),
    "norm_pix_loss": ("patches", "it normalises patches", "scale to masked_variance"),
}
"""By field: the parts it applies to, its subject, and the alternative for other parts."""


def resolve_loss(loss: LossSpec, default: LossSpec, *, title: str, parts: PartsName) -> LossSpec:
    """Fill in the defaults of a method's loss.

    Another method's field is accepted at its default, so that a spec can change its method.

    Args:
        loss: as its author wrote it.
        default: the method's; its fields that are None do not apply to the method.
        title: of the method, for people.
        parts: that the method masks.

    Raises:
        SpecError: a field that does not apply to the method has another value.
    """
    resolved: dict[str, Any] = {}
    for field, neutral in _NEUTRAL.items():
        value, own = getattr(loss, field), getattr(default, field)
        if own is not None:
            resolved[field] = own if value is None else value
        elif value not in (None, neutral):
            raise _inapplicable(field, default, title, parts)
    return LossSpec(**resolved)


def _inapplicable(field: str, default: LossSpec, title: str, parts: PartsName) -> SpecError:
    of_parts, about, instead = _ABOUT[field]
    why = (
        f"{title} has no such choice"
        if parts == of_parts
        else f"{about}, and {title} masks {parts}"
    )
    other = instead.partition(" ")[0]
    hint = f", or set loss.{instead}" if getattr(default, other) is not None else ""
    return SpecError(f"loss.{field}: {why}; leave it out{hint}", field=("loss", field))
