"""Model of an installed method."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pmae.spec.base import PartsName
from pmae.spec.parts.masking import Strategy


class MethodView(BaseModel):
    """Method that a spec can name."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Name in a spec.", examples=["pmae"])
    title: str = Field(description="Display name.", examples=["PMAE"])
    parts: PartsName = Field(description="Parts of an image that it masks.")
    strategies: list[Strategy] = Field(description="Valid values of `masking.strategy`.")
    has_basis: bool = Field(description="True if its runs have a basis of components.")
