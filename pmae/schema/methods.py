"""What goes over the wire of the methods that are installed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pmae.spec.base import PartsName
from pmae.spec.parts.masking import Strategy


class MethodView(BaseModel):
    """A method that a spec can name."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="What a spec names.", examples=["pmae"])
    title: str = Field(description="Its name for people.", examples=["PMAE"])
    parts: PartsName = Field(description="What is masked.")
    strategies: list[Strategy] = Field(description="Values of `masking.strategy` that it takes.")
    has_basis: bool = Field(description="Whether its runs have a basis of components.")
