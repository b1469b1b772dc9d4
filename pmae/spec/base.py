"""What every part of a spec is made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

PositiveInt = Annotated[int, Field(gt=0)]
PartsName = Literal["components", "patches"]
"""What a method masks."""
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, strip_whitespace=True)]


def check_range(value: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range whose ends are the wrong way round, with an error that pydantic reports."""
    if value[0] > value[1]:
        raise PydanticCustomError(
            "range_reversed",
            "[{low}, {high}] is not a range; valid is [low, high] with low <= high",
            {"low": value[0], "high": value[1]},
        )
    return value


class SpecModel(BaseModel):
    """Base of every part of a spec: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def resolved(value: int | None, name: str) -> int:
    """``value`` of a resolved spec."""
    if value is None:
        raise ValueError(f"{name} is not resolved; call pmae.spec.resolve first")
    return value


def divisors(number: int, most: int) -> list[int]:
    """What divides ``number``, up to ``most``."""
    return [n for n in range(1, min(number, most) + 1) if number % n == 0]
