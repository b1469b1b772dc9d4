"""The masked autoencoder: a ViT encoder and MAE's light decoder (arXiv 2111.06377).

PMAE and MAE share it. PMAE's encoder sees all patches of an image; MAE's sees the visible patches
only, and its decoder inserts a learned token for each masked one.

The encoder's parameters have the names of timm's ``VisionTransformer``.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pmae.models.patches import unpatchify
from pmae.models.tokens import Visible
from pmae.seeding import derive_seed
from pmae.spec import ExperimentSpec, ModelSpec

_TOKEN_STD = 0.02
_layer_norm = partial(nn.LayerNorm, eps=1e-6)


class Encoder(nn.Module):
    """A pre-norm ViT with a CLS token and fixed sine-cosine positions.

    Args:
        image_size: edge length of the square images in pixels.
        patch_size: edge length of a patch in pixels.
        in_channels: channels of the images.
        embed_dim: width of the tokens.
        depth: number of blocks.
        num_heads: heads of each block; divides ``embed_dim``.
        mlp_ratio: width of the blocks' MLP over ``embed_dim``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        in_channels: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.patch_embed = PatchEmbed(image_size, patch_size, in_channels, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        positions = sincos_positions(embed_dim, image_size // patch_size)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.blocks = _blocks(embed_dim, depth, num_heads, mlp_ratio)
        self.norm = _layer_norm(embed_dim)

    @property
    def num_patches(self) -> int:
        """Number of patches of an image."""
        return self.pos_embed.shape[1] - 1

    def forward(
        self, images: Tensor, visible: Tensor | None = None, padding: Tensor | None = None
    ) -> Tensor:
        """Encode images, or only some of their patches.

        Args:
            images: ``(batch, channels, height, width)``, standardised.
            visible: ``(batch, num_visible)`` int64, the patches to encode; default: all.
            padding: bool ``(batch, num_visible)``, True = padding: no token attends to it, and its
                own output has no meaning; default: none.

        Returns:
            ``(batch, 1 + num_visible, embed_dim)`` after the last norm, the CLS token first.
        """
        tokens = self.patch_embed(images) + self.pos_embed[:, 1:]
        if visible is not None:
            tokens = Visible.of(visible, padding, self.num_patches).take(tokens)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = torch.cat([cls, tokens], dim=1)
        attended: dict[str, Tensor] = {}
        if padding is not None:
            keys = torch.cat([torch.ones_like(padding[:, :1]), ~padding], dim=1)
            attended["attn_mask"] = keys[:, None, None, :]
        for block in self.blocks:
            tokens = block(tokens, **attended)
        encoded: Tensor = self.norm(tokens)
        return encoded


class Decoder(nn.Module):
    """MAE's decoder: maps encoded tokens to an image.

    Args:
        grid: patches along an edge.
        patch_size: edge length of a patch in pixels.
        out_channels: channels of the images.
        encoder_dim: width of the encoder's tokens.
        embed_dim: width of the decoder.
        depth: number of blocks.
        num_heads: heads of each block; divides ``embed_dim``.
        mlp_ratio: width of the blocks' MLP over ``embed_dim``.
    """

    def __init__(
        self,
        *,
        grid: int,
        patch_size: int,
        out_channels: int,
        encoder_dim: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.out_channels = out_channels
        self.embed = nn.Linear(encoder_dim, embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(sincos_positions(embed_dim, grid), requires_grad=False)
        self.blocks = _blocks(embed_dim, depth, num_heads, mlp_ratio)
        self.norm = _layer_norm(embed_dim)
        self.pred = nn.Linear(embed_dim, patch_size**2 * out_channels)

    def forward(
        self, tokens: Tensor, visible: Tensor | None = None, padding: Tensor | None = None
    ) -> Tensor:
        """Decode images.

        Args:
            tokens: ``(batch, 1 + num_visible, encoder_dim)``, the CLS token first.
            visible: ``(batch, num_visible)`` int64, the tokens' patches; default: all.
            padding: bool ``(batch, num_visible)``, True = padding: the token is ignored, and
                ``visible`` holds a masked patch of the image there; default: none.

        Returns:
            ``(batch, channels, height, width)``, in standardised pixels.
        """
        tokens = self.embed(tokens)
        if visible is not None:
            tokens = self._with_mask_tokens(tokens, visible, padding)
        tokens = tokens + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        patches = self.pred(self.norm(tokens))[:, 1:]
        return unpatchify(patches, self.patch_size, self.out_channels)

    def _with_mask_tokens(self, tokens: Tensor, visible: Tensor, padding: Tensor | None) -> Tensor:
        where = Visible.of(visible, padding, self.pos_embed.shape[1] - 1)
        # Under autocast the tokens are bf16, but the parameter is fp32.
        mask_token = self.mask_token.to(tokens.dtype)
        patches = torch.where(where.present[:, :, None], where.put(tokens[:, 1:]), mask_token)
        return torch.cat([tokens[:, :1], patches], dim=1)


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder.

    Args:
        spec: resolved.
        image_size: edge length of the square images in pixels.
        channels: channels of the images.
        seed: of the weights; torch's global generator has no influence on them.
    """

    def __init__(self, spec: ModelSpec, *, image_size: int, channels: int, seed: int) -> None:
        super().__init__()
        if None in (spec.patch_size, spec.embed_dim, spec.depth, spec.num_heads):
            raise ValueError("the model spec is not resolved")
        assert spec.patch_size
        assert spec.embed_dim
        assert spec.depth
        assert spec.num_heads
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(seed, "init"))
            self.encoder = Encoder(
                image_size=image_size,
                patch_size=spec.patch_size,
                in_channels=channels,
                embed_dim=spec.embed_dim,
                depth=spec.depth,
                num_heads=spec.num_heads,
                mlp_ratio=spec.mlp_ratio,
            )
            self.decoder = Decoder(
                grid=image_size // spec.patch_size,
                patch_size=spec.patch_size,
                out_channels=channels,
                encoder_dim=spec.embed_dim,
                embed_dim=spec.decoder_embed_dim,
                depth=spec.decoder_depth,
                num_heads=spec.decoder_num_heads,
                mlp_ratio=spec.decoder_mlp_ratio,
            )
            _initialise(self)

    @classmethod
    def of(cls, spec: ExperimentSpec, channels: int) -> MaskedAutoencoder:
        """Build the model of a resolved spec, with its run's initial weights."""
        return cls(spec.model, image_size=spec.resolution, channels=channels, seed=spec.seed)

    def forward(
        self, images: Tensor, visible: Tensor | None = None, padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode and decode.

        Args:
            images: ``(batch, channels, height, width)``, standardised; for PMAE with the masked
                components set to 0.
            visible: ``(batch, num_visible)`` int64, the patches the encoder sees; default: all.
            padding: bool ``(batch, num_visible)``, True where ``visible`` is padded with masked
                patches, as other images show more; default: none.

        Returns:
            The decoded images ``(batch, channels, height, width)``, and the CLS tokens
            ``(batch, embed_dim)``, the images' representations.
        """
        tokens = self.encoder(images, visible, padding)
        return self.decoder(tokens, visible, padding), tokens[:, 0]


def sincos_positions(embed_dim: int, grid: int) -> Tensor:
    """Compute sine-cosine positions of a square grid of patches, with zeros for the CLS token.

    The first half of ``embed_dim`` encodes the column, the second the row: each holds the sines,
    then the cosines, of ``position / 10000^(2i / (embed_dim / 2))``.

    Returns:
        ``(1, 1 + grid * grid, embed_dim)`` float32.
    """
    if embed_dim % 4:
        raise ValueError(f"embed_dim must be a multiple of 4, got {embed_dim}")
    quarter = embed_dim // 4
    frequency = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)
    columns = axis[None].expand(grid, -1, -1)
    rows = axis[:, None].expand(-1, grid, -1)
    patches = torch.cat([columns, rows], dim=2).reshape(grid * grid, embed_dim)
    return torch.cat([torch.zeros(1, embed_dim, dtype=torch.float64), patches])[None].float()


def _blocks(width: int, depth: int, num_heads: int, mlp_ratio: float) -> nn.ModuleList:
    norm_layer = cast("type[nn.Module]", _layer_norm)
    return nn.ModuleList(
        Block(width, num_heads, mlp_ratio, qkv_bias=True, norm_layer=norm_layer)
        for _ in range(depth)
    )


def _initialise(model: MaskedAutoencoder) -> None:
    """Initialise as MAE: Xavier for linear and patch weights, zero biases, normal tokens."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(model.encoder.cls_token, std=_TOKEN_STD)
    nn.init.normal_(model.decoder.mask_token, std=_TOKEN_STD)
