"""Convert images to sequences of patches, and back."""

from __future__ import annotations

from torch import Tensor


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut square images into square patches, row by row.

    Args:
        images: ``(batch, channels, height, width)``; ``patch_size`` divides height and width.
        patch_size: edge length in pixels.

    Returns:
        ``(batch, num_patches, patch_size * patch_size * channels)``; the values of a patch are
        ordered by row, column, channel, as in MAE.
    """
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    grid = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, patch_size**2 * channels)


def unpatchify(patches: Tensor, patch_size: int, channels: int) -> Tensor:
    """Invert :func:`patchify`, for square images.

    Returns:
        ``(batch, channels, height, width)``.
    """
    batch, num_patches, _ = patches.shape
    edge = round(num_patches**0.5)
    if edge * edge != num_patches:
        raise ValueError(f"{num_patches} patches do not make a square image")
    grid = patches.reshape(batch, edge, edge, patch_size, patch_size, channels)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(
        batch, channels, edge * patch_size, edge * patch_size
    )


def pixel_mask(masked: Tensor, patch_size: int) -> Tensor:
    """Expand a patch mask to a pixel mask.

    Args:
        masked: bool ``(batch, num_patches)``, True = masked.
        patch_size: edge length in pixels.

    Returns:
        bool ``(batch, 1, height, width)``.
    """
    pixels = masked[:, :, None].expand(-1, -1, patch_size**2)
    return unpatchify(pixels, patch_size, channels=1)
