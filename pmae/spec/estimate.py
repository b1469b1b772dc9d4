"""What a run would cost, from its spec alone: weights, steps, memory. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pmae.spec import ExperimentSpec
from pmae.spec.base import resolved
from pmae.spec.methods import get_method

_FLOAT = 4
"""Bytes of a weight, a gradient, a moment: all fp32, also where the arithmetic is in bf16."""


@dataclass(frozen=True)
class Memory:
    """Bytes on each device while training; what the formulas leave out is said there."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    basis: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.basis


def steps_per_epoch(spec: ExperimentSpec, num_train: int) -> int:
    """Whole batches of an epoch, at least one."""
    return max(1, num_train // spec.batch_size)


def encoder_parameters(spec: ExperimentSpec, channels: int) -> int:
    """Trained weights of the encoder; positions are fixed.

    Args:
        spec: resolved.
        channels: of the images.
    """
    width, depth = _encoder_size(spec)
    hidden = int(width * spec.model.mlp_ratio)
    embedding = (channels * spec.patch_size**2 + 1) * width
    cls_and_norm = 3 * width
    return embedding + cls_and_norm + depth * _block_parameters(width, hidden)


def decoder_parameters(spec: ExperimentSpec, channels: int) -> int:
    """Trained weights of the decoder; positions are fixed.

    Args:
        spec: resolved.
        channels: of the images.
    """
    width = spec.model.decoder_embed_dim
    hidden = int(width * spec.model.decoder_mlp_ratio)
    embedding = (_encoder_size(spec)[0] + 1) * width
    prediction = (width + 1) * channels * spec.patch_size**2
    mask_token_and_norm = 3 * width
    blocks = spec.model.decoder_depth * _block_parameters(width, hidden)
    return embedding + mask_token_and_norm + prediction + blocks


def num_parameters(spec: ExperimentSpec, channels: int) -> int:
    """Trained weights of encoder and decoder."""
    return encoder_parameters(spec, channels) + decoder_parameters(spec, channels)


def training_memory(spec: ExperimentSpec, channels: int) -> Memory:
    """Bytes on each device while training, without images, buffers of libraries and the probe.

    Weights, gradients and AdamW's two moments take 4 bytes each of every weight. Of every token a
    block keeps for the backward pass, with the fused attention that stores no scores, 8 values of
    its width (both norms' inputs and outputs, query, key and value, the attention's output) and 2
    of its MLP's (before and after GELU), in 4 bytes or, with bf16, in 2. The basis of D values an
    image and k components takes ``4 D k`` bytes.

    Args:
        spec: resolved.
        channels: of the images.
    """
    weights = _FLOAT * num_parameters(spec, channels)
    num_values = channels * spec.resolution**2
    components = 0
    if spec.basis is not None:
        components = spec.basis.num_components or num_values
    return Memory(
        weights=weights,
        gradients=weights,
        optimizer=2 * weights,
        activations=_activations(spec),
        basis=_FLOAT * num_values * components,
    )


def checkpoint_bytes(spec: ExperimentSpec, channels: int) -> int:
    """Weights (fixed positions too) and AdamW's two moments of one checkpoint."""
    tokens = 1 + _num_patches(spec)
    positions = tokens * (_encoder_size(spec)[0] + spec.model.decoder_embed_dim)
    return _FLOAT * (3 * num_parameters(spec, channels) + positions)


def _activations(spec: ExperimentSpec) -> int:
    model = spec.model
    width, depth = _encoder_size(spec)
    patches = _num_patches(spec)
    encoder = _kept_by_block(width, model.mlp_ratio) * depth * (1 + _visible(spec, patches))
    decoder = _kept_by_block(model.decoder_embed_dim, model.decoder_mlp_ratio)
    decoder *= model.decoder_depth * (1 + patches)
    images = math.ceil(spec.batch_size / (spec.accumulate_steps * spec.devices))
    return images * (encoder + decoder) * (2 if spec.precision == "bf16" else _FLOAT)


def _kept_by_block(width: int, mlp_ratio: float) -> int:
    return 8 * width + 2 * int(width * mlp_ratio)


def _visible(spec: ExperimentSpec, patches: int) -> int:
    """Patches that the encoder sees: all, or only the visible ones, of a range the most.

    Masks that follow objects may leave all but one visible.
    """
    ratio = spec.masking.ratio
    sees_all = get_method(spec.method).encoder_sees_all
    if sees_all or ratio is None or spec.masking.needs_object_masks:
        return patches
    return math.ceil(patches * (1 - (ratio[0] if isinstance(ratio, tuple) else ratio)))


def _num_patches(spec: ExperimentSpec) -> int:
    return (spec.resolution // spec.patch_size) ** 2


def _encoder_size(spec: ExperimentSpec) -> tuple[int, int]:
    """Width and depth."""
    model = spec.model
    return resolved(model.embed_dim, "model.embed_dim"), resolved(model.depth, "model.depth")


def _block_parameters(width: int, hidden: int) -> int:
    attention = (width + 1) * 3 * width + (width + 1) * width
    return 4 * width + attention + (width + 1) * hidden + (hidden + 1) * width
