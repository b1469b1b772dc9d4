"""Spec of encoder and decoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pmae.errors import SpecError
from pmae.spec.base import PositiveInt, SpecModel, divisors, resolved

MODEL_PRESETS: dict[str, dict[str, int]] = {
    "vit_tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "vit_small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "vit_base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
}


class ModelSpec(SpecModel):
    """ViT encoder and MAE decoder. A number given here replaces the preset's."""

    preset: Literal["vit_tiny", "vit_small", "vit_base"] = Field(
        default="vit_tiny", description="Encoder size."
    )
    patch_size: PositiveInt | None = Field(
        default=None, description="Edge length in pixels; default: the data set's."
    )
    embed_dim: PositiveInt | None = Field(default=None, le=4096, description="Encoder width.")
    depth: PositiveInt | None = Field(default=None, le=64, description="Encoder blocks.")
    num_heads: PositiveInt | None = Field(default=None, le=64, description="Encoder heads.")
    mlp_ratio: float = Field(default=4.0, gt=0, le=16, description="MLP width over encoder width.")
    decoder_embed_dim: PositiveInt = Field(default=512, le=4096, description="Decoder width.")
    decoder_depth: PositiveInt = Field(default=8, le=64, description="Decoder blocks.")
    decoder_num_heads: PositiveInt = Field(default=16, le=64, description="Decoder heads.")
    decoder_mlp_ratio: float = Field(
        default=4.0, gt=0, le=16, description="MLP width over decoder width."
    )


def resolve_model(model: ModelSpec, *, resolution: int, patch_size: int) -> ModelSpec:
    """Fill in the preset's numbers, and check them against each other and the resolution.

    Args:
        model: as its author wrote it.
        resolution: edge length of the images in pixels.
        patch_size: the data set's default.

    Raises:
        SpecError: a width or resolution that is not divisible as it needs to be.
    """
    numbers = MODEL_PRESETS[model.preset] | {"patch_size": patch_size}
    missing = {name: value for name, value in numbers.items() if getattr(model, name) is None}
    filled = model.model_copy(update=missing)
    for prefix in ("", "decoder_"):
        width, heads = (
            getattr(filled, prefix + "embed_dim"),
            getattr(filled, prefix + "num_heads"),
        )
        if width % heads:
            raise SpecError(
                f"model.{prefix}num_heads: {heads} heads do not divide the width {width}; "
                f"expected one of {divisors(width, 64)}",
                field=("model", prefix + "num_heads"),
            )
        if width % 4:
            raise SpecError(
                f"model.{prefix}embed_dim: expected a multiple of 4, as the sine-cosine positions "
                f"need, got {width}",
                field=("model", prefix + "embed_dim"),
            )
    _check_patches(resolution, filled)
    return filled


def _check_patches(resolution: int, model: ModelSpec) -> None:
    patch_size = resolved(model.patch_size, "model.patch_size")
    if resolution % patch_size or patch_size == resolution:
        valid = [size for size in divisors(resolution, 64) if size < resolution]
        raise SpecError(
            f"model.patch_size: {patch_size} does not divide the resolution {resolution} into "
            f"patches; expected one of {valid}",
            field=("model", "patch_size"),
        )
