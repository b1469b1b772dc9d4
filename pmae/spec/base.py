"""Base class, field types and checks that all parts of a spec share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

PositiveInt = Annotated[int, Field(gt=0)]
PartsName = Literal["components", "patches"]
"""Parts of an image that a method can mask."""
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, strip_whitespace=True)]


def check_range(value: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range whose ends are reversed, with an error that pydantic reports."""
    if value[0] > value[1]:
        raise PydanticCustomError(
            "range_reversed",
            "[{low}, {high}] is not a range; expected [low, high] with low <= high",
            {"low": value[0], "high": value[1]},
        )
    return value


class SpecModel(BaseModel):
    """Base of every part of a spec: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def resolved(value: int | None, name: str) -> int:
    """Return ``value``, or raise ValueError if the spec is not resolved."""
    if value is None:
        raise ValueError(f"{name} is not resolved; call pmae.spec.resolve first")
    return value


def divisors(number: int, max_divisor: int) -> list[int]:
    """The divisors of ``number`` up to ``max_divisor``."""
    return [n for n in range(1, min(number, max_divisor) + 1) if number % n == 0]
