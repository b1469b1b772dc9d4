"""Decode an image file to a square of uint8 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pmae.data.readable import why_unreadable
from pmae.errors import DataError, DatasetUnreadableError
from pmae.spec.catalog import Fit

_GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16L", "I;16B"})
_UNSCALED_MODES = frozenset({"I", "F"})
"""Pillow's modes of integers or floats without a known maximum."""
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""Errors that Pillow raises for a file that it cannot decode."""
_REMEDY = "replace it, or remove it and submit a new run"


def is_grey(path: Path) -> bool:
    """True if an image file is greyscale, by its header.

    Raises:
        DataError: it is not an image.
    """
    with _opened(path) as image:
        return image.mode in _GREY_MODES


def read_image(path: Path, *, resolution: int, channels: int, fit: Fit) -> np.ndarray:
    """Decode an image and scale it with an antialiased bicubic filter.

    A JPEG of more than twice ``resolution`` is decoded at a reduced size.

    Returns:
        ``(channels, resolution, resolution)`` uint8.

    Raises:
        DataError: it is not an image, is truncated, or has no known range of values.
    """
    with _opened(path) as image:
        try:
            shrink_early(image, resolution=resolution, channels=channels)
            return square_pixels(
                eight_bit(image, str(path)), resolution=resolution, channels=channels, fit=fit
            )
        except _BROKEN as error:
            raise DataError(f"{path} is broken ({error}): {_REMEDY}") from error


def shrink_early(image: Image.Image, *, resolution: int, channels: int) -> None:
    """Have Pillow decode a JPEG of more than twice ``resolution`` at a reduced size."""
    image.draft(_mode(channels), (2 * resolution, 2 * resolution))


def square_pixels(
    image: Image.Image, *, resolution: int, channels: int, fit: Fit, background: str | None = None
) -> np.ndarray:
    """Convert an image of 8 bits a channel to a square in grey or RGB.

    Args:
        image: in any mode of 8 bits a channel.
        resolution: edge length in pixels.
        channels: 1 (grey) or 3 (RGB).
        fit: how to make an oblong image square.
        background: colour behind transparent pixels; None: transparency is ignored.

    Returns:
        ``(channels, resolution, resolution)`` uint8.
    """
    mode = _mode(channels)
    if background is not None and image.has_transparency_data:
        # Pillow weights colours by opacity when it scales, so hidden colours do not bleed.
        clear = _square(image.convert("LA" if channels == 1 else "RGBA"), resolution, fit)
        square = Image.new(mode, clear.size, background)
        square.paste(clear.convert(mode), mask=clear.getchannel("A"))
    else:
        square = _square(image.convert(mode), resolution, fit)
    pixels = np.asarray(square)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def read_object_mask(path: Path, *, resolution: int, fit: Fit) -> np.ndarray:
    """Decode an image whose 8-bit values number the objects, 0 for none.

    Returns:
        ``(resolution, resolution)`` uint8.

    Raises:
        DataError: it is not an image, or has other values than 8-bit numbers.
    """
    with _opened(path) as image:
        if image.mode not in ("L", "P"):
            raise DataError(
                f"{path} is no object mask: its mode is {image.mode}; expected a grey or palette "
                "image whose 8-bit values number the objects, 0 for none"
            )
        try:
            # The object numbers are the palette's indices, not its colours.
            numbers = Image.fromarray(np.asarray(image))
            square = _square(numbers, resolution, fit, Image.Resampling.NEAREST)
        except _BROKEN as error:
            raise DataError(f"{path} is broken ({error}): {_REMEDY}") from error
    return np.asarray(square)


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except PermissionError as error:
        raise DatasetUnreadableError(why_unreadable(path) or str(error)) from error
    except (UnidentifiedImageError, *_BROKEN) as error:
        raise DataError(f"{path} is not an image ({error}): {_REMEDY}") from error


def eight_bit(image: Image.Image, name: str) -> Image.Image:
    """Convert an image to 8 bits a channel, the upper ones of 16.

    Raises:
        DataError: its values have no known maximum; the message begins with ``name``.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in _UNSCALED_MODES:
        raise DataError(
            f"{name} has {image.mode} values (integers or floats without a known maximum); "
            "convert it to 8 or 16 bits a channel"
        )
    return image


def _mode(channels: int) -> str:
    return "L" if channels == 1 else "RGB"


def _square(
    image: Image.Image,
    resolution: int,
    fit: Fit,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    size = (resolution, resolution)
    return ImageOps.fit(image, size, resample) if fit == "crop" else image.resize(size, resample)
