"""Training steps of other libraries' MAE, of the same size as ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from pmae.spec import ModelSpec

TRANSFORMERS = f"transformers {version('transformers')} ViTMAE"
STABLE_PRETRAINING = "stable-pretraining"
MISSING = f"{STABLE_PRETRAINING} is not installed: no comparison with it"
Step = Callable[[], object]


def autocast(device: torch.device, *, bf16: bool) -> AbstractContextManager[object]:
    """Autocast to bf16, or do nothing."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser that all steps use."""
    trained = [value for value in model.parameters() if value.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)


def transformers_step(spec: ModelSpec, images: Tensor, ratio: float, *, bf16: bool) -> Step:
    """Make the step of ``transformers``' ViTMAE, with its own loss.

    Args:
        spec: resolved.
        images: ``(batch, channels, size, size)`` float, on the device that computes.
        ratio: fraction of patches to mask, above 0.
        bf16: True = compute the model in bf16.
    """
    assert spec.embed_dim
    assert spec.depth
    assert spec.num_heads
    assert spec.patch_size
    config = ViTMAEConfig(
        hidden_size=spec.embed_dim,
        num_hidden_layers=spec.depth,
        num_attention_heads=spec.num_heads,
        intermediate_size=round(spec.embed_dim * spec.mlp_ratio),
        image_size=images.shape[-1],
        num_channels=images.shape[1],
        patch_size=spec.patch_size,
        decoder_hidden_size=spec.decoder_embed_dim,
        decoder_num_hidden_layers=spec.decoder_depth,
        decoder_num_attention_heads=spec.decoder_num_heads,
        decoder_intermediate_size=round(spec.decoder_embed_dim * spec.decoder_mlp_ratio),
        mask_ratio=ratio,
    )
    model: nn.Module = ViTMAEForPreTraining(config)
    return _step(model.to(images.device), images, bf16=bf16)


def stable_pretraining_step(
    spec: ModelSpec, images: Tensor, ratio: float, *, bf16: bool
) -> tuple[str, Step] | None:
    """Make the step of ``stable-pretraining``'s MAE, and its name; None if it is not installed.

    Its decoder has no CLS token, and so one token fewer than ours. Arguments as in
    :func:`transformers_step`.
    """
    if find_spec("stable_pretraining") is None:
        return None
    methods = import_module("stable_pretraining.methods")
    assert spec.embed_dim
    assert spec.depth
    assert spec.num_heads
    encoder = VisionTransformer(
        img_size=images.shape[-1],
        patch_size=spec.patch_size or 16,
        in_chans=images.shape[1],
        num_classes=0,
        embed_dim=spec.embed_dim,
        depth=spec.depth,
        num_heads=spec.num_heads,
        mlp_ratio=spec.mlp_ratio,
    )
    model = methods.MAE(
        encoder,
        decoder_embed_dim=spec.decoder_embed_dim,
        decoder_depth=spec.decoder_depth,
        decoder_num_heads=spec.decoder_num_heads,
        mask_ratio=ratio,
        norm_pix_loss=False,
    )
    name = f"{STABLE_PRETRAINING} {version(STABLE_PRETRAINING)} MAE"
    return name, _step(model.to(images.device).train(), images, bf16=bf16)


def _step(model: nn.Module, images: Tensor, *, bf16: bool) -> Step:
    optimizer = optimizer_of(model)

    def run() -> None:
        with autocast(images.device, bf16=bf16):
            loss = model(images).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run
