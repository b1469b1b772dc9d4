"""Decode untrusted, user-supplied images.

They are decoded like a data set's files (:mod:`pmae.data.decode`), after limits of size and format
are checked. In addition, the EXIF orientation is applied, and transparent pixels get a background.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pmae.data.decode import eight_bit, shrink_early, square_pixels
from pmae.errors import DataError, ImageError
from pmae.schema.reconstructions import IMAGE_FORMATS, MOST_IMAGE_BYTES, MOST_IMAGE_PIXELS
from pmae.spec.catalog import Fit

ImageSource = str | Path | bytes | Image.Image
"""The path of an image file, its bytes, or an image opened by Pillow."""
BACKGROUND = "white"
"""Colour behind transparent pixels."""
_PILLOW_FORMATS = tuple(name.upper() for name in IMAGE_FORMATS)
_VALID = (
    f"expected {', '.join(IMAGE_FORMATS[:-1])} or {IMAGE_FORMATS[-1]}, at most "
    f"{MOST_IMAGE_BYTES // 2**20} MiB and {MOST_IMAGE_PIXELS:,} pixels"
)


def read_untrusted_image(
    source: ImageSource, *, resolution: int, channels: int, fit: Fit
) -> np.ndarray:
    """Decode an untrusted image like one of a data set.

    Args:
        source: a file, or an image.
        resolution: edge length in pixels.
        channels: 1 (grey) or 3 (RGB).
        fit: how to make an oblong image square.

    Returns:
        ``(channels, resolution, resolution)`` uint8.

    Raises:
        ImageError: it is none of ``IMAGE_FORMATS``, too large, broken, or has values without a
            known maximum. The limits are checked before a pixel is decoded.
    """
    image = source.copy() if isinstance(source, Image.Image) else _opened(_bytes(source))
    # A decoder may raise any exception for a malicious file.
    try:
        shrink_early(image, resolution=resolution, channels=channels)
        ImageOps.exif_transpose(image, in_place=True)
        return square_pixels(
            eight_bit(image, "it"),
            resolution=resolution,
            channels=channels,
            fit=fit,
            background=BACKGROUND,
        )
    except DataError as error:
        raise ImageError(str(error)) from error
    except Exception as error:
        raise ImageError(f"it is broken ({_reason(error)}); {_VALID}") from error


def _bytes(source: str | Path | bytes) -> bytes:
    """Read the file, refusing one that is empty or too large."""
    if isinstance(source, bytes):
        data = source
    else:
        try:
            with Path(source).open("rb") as file:
                data = file.read(MOST_IMAGE_BYTES + 1)
        except OSError as error:
            raise ImageError(f"it cannot be read ({error.strerror}); {_VALID}") from error
    if not data:
        raise ImageError(f"it is empty; {_VALID}")
    if len(data) > MOST_IMAGE_BYTES:
        raise ImageError(f"it has more than {MOST_IMAGE_BYTES // 2**20} MiB; {_VALID}")
    return data


def _opened(data: bytes) -> Image.Image:
    """Open the image by its header, refusing one of another format or with too many pixels."""
    try:
        image = Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"it has more than {MOST_IMAGE_PIXELS:,} pixels; {_VALID}") from error
    except Exception as error:
        raise ImageError(f"it is not an image of a supported format; {_VALID}") from error
    if image.width * image.height > MOST_IMAGE_PIXELS:
        raise ImageError(f"it has {image.width:,} x {image.height:,} pixels; {_VALID}")
    return image


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
