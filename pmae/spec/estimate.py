"""Estimate a run's weights, steps and memory from its spec. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pmae.spec import ExperimentSpec
from pmae.spec.base import resolved
from pmae.spec.methods import get_method

_FLOAT = 4
"""Bytes of a weight, a gradient or a moment: fp32 even where the model computes in bf16."""


@dataclass(frozen=True)
class Memory:
    """Bytes on each device during training (:func:`training_memory`)."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    basis: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.basis


def steps_per_epoch(spec: ExperimentSpec, num_train: int) -> int:
    """Number of full batches in an epoch, at least 1."""
    return max(1, num_train // spec.batch_size)


def encoder_parameters(spec: ExperimentSpec, channels: int) -> int:
    """Number of trained weights of the encoder, without its fixed positions.

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
    """Number of trained weights of the decoder, without its fixed positions.

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
    """Number of trained weights of encoder and decoder."""
    return encoder_parameters(spec, channels) + decoder_parameters(spec, channels)


def training_memory(spec: ExperimentSpec, channels: int) -> Memory:
    """Estimate the bytes on each device during training.

    Images, libraries' buffers and the online probe are left out. Each weight takes 4 bytes, its
    gradient 4, and AdamW's two moments 8. For the backward pass each block stores, for each token,
    8 vectors of its width (inputs and outputs of both norms, query, key, value, and the output of
    the fused attention, which stores no scores) and 2 of its MLP's (before and after GELU), in 4
    bytes a value, or 2 with bf16. A basis of ``k`` components of ``D`` values takes ``4 D k``.

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
    """Estimate the bytes of a checkpoint: weights with fixed positions, AdamW's two moments."""
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
    """Maximal number of patches that the encoder sees: all, or only the visible ones.

    Object masks may leave all but one visible.
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
