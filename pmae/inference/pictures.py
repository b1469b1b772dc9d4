"""Convert arrays to pictures and PNG files. Imports no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

_LOW = np.array([33, 102, 172], np.float32)
_MIDDLE = np.array([247, 247, 247], np.float32)
_HIGH = np.array([178, 24, 43], np.float32)
_SHEET_IMAGE = 96
_SHEET_GAP = 8
_SHEET_HEADER = 20


def encode_png(image: np.ndarray) -> bytes:
    """Encode ``(height, width, 3)`` uint8 as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def intensity(images: np.ndarray) -> np.ndarray:
    """Convert pixels ``(n, channels, height, width)`` in [0, 1] to RGB bytes, channels last."""
    pixels = np.clip(np.rint(images * 255), 0, 255).astype(np.uint8)
    return _as_rgb(pixels.transpose(0, 2, 3, 1))


def diverging(images: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Map values around zero to colours.

    One channel: blue to white to red. Three channels: each around mid-grey.

    Args:
        images: ``(n, channels, height, width)`` float.
        limit: ``(n,)``, the absolute value that gets the full colour in each image.

    Returns:
        ``(n, height, width, 3)`` uint8.
    """
    scaled = images / np.maximum(limit, np.finfo(np.float32).tiny)[:, None, None, None]
    scaled = np.clip(scaled, -1, 1).transpose(0, 2, 3, 1)
    if scaled.shape[3] == 3:
        colours = (scaled + 1) * 127.5
    else:
        ends = np.where(scaled < 0, _LOW, _HIGH)
        colours = _MIDDLE + (ends - _MIDDLE) * np.abs(scaled)
    pixels: np.ndarray = np.rint(colours).astype(np.uint8)
    return pixels


def component_png(component: np.ndarray) -> bytes:
    """Draw a component ``(channels, height, width)`` on a diverging scale up to its maximum."""
    return encode_png(diverging(component[None], np.abs(component).max()[None])[0])


def sheet_png(panels: Mapping[str, np.ndarray]) -> bytes:
    """Draw panels side by side under their names, a row for each image, enlarged without smoothing.

    Args:
        panels: by name, each ``(n, height, width, 3)`` uint8.
    """
    return columns_png([(name, list(images)) for name, images in panels.items()])


def columns_png(columns: Sequence[tuple[str, Sequence[np.ndarray]]]) -> bytes:
    """Draw columns of images, each under its name, enlarged without smoothing.

    Args:
        columns: names, and images ``(height, width, 3)`` uint8 from top to bottom.
    """
    cell = _SHEET_IMAGE + _SHEET_GAP
    rows = max(len(images) for _, images in columns)
    size = (cell * len(columns) + _SHEET_GAP, cell * rows + _SHEET_HEADER + _SHEET_GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, (name, images) in enumerate(columns):
        left = _SHEET_GAP + column * cell
        draw.text((left, 4), name, fill="black")
        for row, image in enumerate(images):
            enlarged = Image.fromarray(image).resize(
                (_SHEET_IMAGE, _SHEET_IMAGE), Image.Resampling.NEAREST
            )
            sheet.paste(enlarged, (left, _SHEET_HEADER + row * cell))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels
