"""The model beside its peers: equal outputs once the weights are copied."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from pmae.masking import random_patch_mask, visible_indices
from pmae.methods.mae import MAE
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.models.patches import patchify
from pmae.spec import DatasetSpec, ExperimentSpec, ModelSpec, resolve

IMAGE, PATCH, CHANNELS = 32, 8, 3
PATCHES = (IMAGE // PATCH) ** 2


@pytest.fixture
def ours() -> MaskedAutoencoder:
    spec = resolve(
        ExperimentSpec(
            dataset=DatasetSpec(name="cifar10"),
            model=ModelSpec(depth=2, decoder_embed_dim=64, decoder_depth=2, decoder_num_heads=4),
        )
    )
    model = MaskedAutoencoder(spec.model, image_size=IMAGE, channels=CHANNELS, seed=3).eval()
    with torch.no_grad():
        # Zero biases and unit norms would hide a wrong copy.
        noise = torch.Generator().manual_seed(5)
        for value in model.parameters():
            if value.ndim == 1:
                value.add_(0.1 * torch.randn(value.shape, generator=noise))
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, CHANNELS, IMAGE, IMAGE, generator=torch.Generator().manual_seed(0))


def _vitmae(ours: MaskedAutoencoder, mask_ratio: float) -> ViTMAEForPreTraining:
    """ViTMAE with our weights and positions."""
    encoder, decoder = ours.encoder, ours.decoder
    config = ViTMAEConfig(
        hidden_size=encoder.embed_dim,
        num_hidden_layers=len(encoder.blocks),
        num_attention_heads=3,
        intermediate_size=4 * encoder.embed_dim,
        layer_norm_eps=1e-6,
        image_size=IMAGE,
        patch_size=PATCH,
        num_channels=CHANNELS,
        decoder_hidden_size=64,
        decoder_num_hidden_layers=len(decoder.blocks),
        decoder_num_attention_heads=4,
        decoder_intermediate_size=256,
        mask_ratio=mask_ratio,
    )
    peer = ViTMAEForPreTraining(config)
    state: dict[str, Tensor] = {
        "vit.embeddings.cls_token": encoder.cls_token,
        "vit.embeddings.position_embeddings": encoder.pos_embed,
        "decoder.mask_token": decoder.mask_token,
        "decoder.decoder_pos_embed": decoder.pos_embed,
    }
    _copy(state, "vit.embeddings.patch_embeddings.projection", encoder.patch_embed.proj)
    _copy(state, "vit.layernorm", encoder.norm)
    _copy(state, "decoder.decoder_embed", decoder.embed)
    _copy(state, "decoder.decoder_norm", decoder.norm)
    _copy(state, "decoder.decoder_pred", decoder.pred)
    for name, blocks in (
        ("vit.layers", encoder.blocks),
        ("decoder.decoder_layers", decoder.blocks),
    ):
        for index, block in enumerate(blocks):
            _copy_block(state, f"{name}.{index}", block)
    peer.load_state_dict(state, strict=True)
    peer.train(mode=False)
    return peer


def _copy(state: dict[str, Tensor], name: str, layer: nn.Module) -> None:
    for kind, value in layer.named_parameters():
        state[f"{name}.{kind}"] = value


def _copy_block(state: dict[str, Tensor], name: str, block: nn.Module) -> None:
    parts = dict(block.named_modules())
    for kind, value in parts["attn.qkv"].named_parameters():
        for letter, third in zip("qkv", value.chunk(3), strict=True):
            state[f"{name}.attention.{letter}_proj.{kind}"] = third
    _copy(state, f"{name}.attention.o_proj", parts["attn.proj"])
    _copy(state, f"{name}.mlp.fc1", parts["mlp.fc1"])
    _copy(state, f"{name}.mlp.fc2", parts["mlp.fc2"])
    _copy(state, f"{name}.layernorm_before", parts["norm1"])
    _copy(state, f"{name}.layernorm_after", parts["norm2"])


def _noise(visible: Tensor) -> Tensor:
    """With this noise the peer keeps the patches ``visible``, in that order."""
    noise = torch.ones(len(visible), PATCHES)
    return noise.scatter(1, visible, torch.linspace(0, 0.5, visible.shape[1]).expand_as(visible))


@torch.no_grad()
def test_transformers_sees_every_patch_as_we_do(ours: MaskedAutoencoder, images: Tensor) -> None:
    peer = _vitmae(ours, mask_ratio=0.0)
    # Even then it shuffles its tokens: noise in ascending order leaves them where they are.
    out = peer.vit(images, noise=torch.arange(PATCHES).float().expand(len(images), -1))
    torch.testing.assert_close(ours.encoder(images), out.last_hidden_state, atol=1e-4, rtol=1e-4)
    decoded = peer.decoder(out.last_hidden_state, out.ids_restore).logits
    prediction, cls = ours(images)
    torch.testing.assert_close(patchify(prediction, PATCH), decoded, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(cls, out.last_hidden_state[:, 0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_transformers_masks_encodes_and_decodes_as_we_do(
    norm_pix_loss: bool, ours: MaskedAutoencoder, images: Tensor
) -> None:
    masked = random_patch_mask(len(images), PATCHES, 0.75, torch.Generator().manual_seed(1))
    visible = visible_indices(masked)
    peer = _vitmae(ours, mask_ratio=0.75)
    peer.config.norm_pix_loss = norm_pix_loss
    out = peer(images, noise=_noise(visible))
    assert torch.equal(out.mask.bool(), masked)
    method = MAE(PATCHES, PATCH, norm_pix_loss)
    batch = method.project(images, masked)
    prediction, _ = method.predict(ours, batch)
    torch.testing.assert_close(patchify(prediction, PATCH), out.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(method.score(prediction, batch).loss, out.loss, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_timm_takes_the_encoder_as_it_is(ours: MaskedAutoencoder, images: Tensor) -> None:
    peer = VisionTransformer(
        img_size=IMAGE,
        patch_size=PATCH,
        in_chans=CHANNELS,
        num_classes=0,
        embed_dim=ours.encoder.embed_dim,
        depth=len(ours.encoder.blocks),
        num_heads=3,
    ).eval()
    peer.load_state_dict(ours.encoder.state_dict(), strict=True)
    torch.testing.assert_close(
        ours.encoder(images), peer.forward_features(images), atol=1e-5, rtol=1e-5
    )
