"""Images of no data set: what they become, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pmae.data.decode import read_image
from pmae.data.untrusted import read_untrusted_image
from pmae.errors import ImageError
from pmae.schema.reconstructions import IMAGE_FORMATS, MOST_IMAGE_BYTES
from tests.pmae.data.formats import random_pixels, write_image

ORIENTATION = 0x0112


def file(image: Image.Image, format_name: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def read(source: bytes | Path | Image.Image, channels: int = 3, size: int = 16) -> np.ndarray:
    return read_untrusted_image(source, resolution=size, channels=channels, fit="crop")


def smooth(height: int, width: int) -> np.ndarray:
    """A photograph's worth of slowly changing colours."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * y / height, 255 * x / width, 127 + 0 * x], axis=2).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif"])
def test_a_file_of_a_data_set_is_what_the_data_set_makes_of_it(
    tmp_path: Path, suffix: str, fit: Any, channels: int
) -> None:
    path = tmp_path / f"image.{suffix}"
    write_image(path, smooth(70, 113))
    ours = read_untrusted_image(path, resolution=16, channels=channels, fit=fit)
    theirs = read_image(path, resolution=16, channels=channels, fit=fit)
    assert ours.shape == (channels, 16, 16)
    np.testing.assert_array_equal(ours, theirs)
    data = path.read_bytes()
    again = read_untrusted_image(data, resolution=16, channels=channels, fit=fit)
    np.testing.assert_array_equal(again, theirs)


def test_an_image_of_the_resolution_keeps_every_pixel() -> None:
    pixels = random_pixels(16, 16, 3)
    np.testing.assert_array_equal(read(file(Image.fromarray(pixels))), pixels.transpose(2, 0, 1))
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(read(image), pixels.transpose(2, 0, 1))
    assert np.array_equal(np.asarray(image), pixels), "a caller's image stays as it was"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stands_upright(orientation: int) -> None:
    image = Image.fromarray(smooth(90, 120))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = file(image, "JPEG", exif=exif, quality=95)
    with Image.open(io.BytesIO(data)) as stored:
        upright = ImageOps.exif_transpose(stored)
    assert upright.size == ((90, 120) if orientation > 4 else (120, 90))
    expected = read(file(upright))
    assert np.abs(read(data).astype(int) - expected).max() <= 4, "but for the early shrinking"


def test_what_is_transparent_is_white() -> None:
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[:, 8:] = (200, 100, 0, 255)
    for image in (Image.fromarray(clear), Image.fromarray(clear).convert("RGBa")):
        source = file(image) if image.mode == "RGBA" else image
        pixels = read(source)
        assert (pixels[:, :, :8] == 255).all()
        assert pixels[:, 0, 8].tolist() == [200, 100, 0]
    grey = read(file(Image.fromarray(clear).convert("LA")), channels=1)
    assert (grey[:, :, :8] == 255).all()
    assert grey[0, 0, 8] == pytest.approx(118, abs=1)
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert (read(file(palette, "PNG", transparency=1)) == 255).all()
    assert read(file(palette))[:, 0, 0].tolist() == [10, 20, 30]
    half = np.full((40, 40, 4), (0, 0, 0, 128), np.uint8)
    assert np.unique(read(file(Image.fromarray(half)))).tolist() == [127]


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    image = Image.fromarray(random_pixels(40, 64, 3))
    path = tmp_path / "opaque.png"
    image.convert("RGBA").save(path)
    np.testing.assert_array_equal(read(path), read(file(image)))
    theirs = read_image(path, resolution=16, channels=3, fit="crop")
    np.testing.assert_array_equal(read(path), theirs)


def test_of_16_bits_the_upper_ones_count() -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    data = file(Image.fromarray(values << 8))
    np.testing.assert_array_equal(read(data, channels=1)[0], values)
    assert read(data).shape == (3, 16, 16)
    with pytest.raises(ImageError, match="convert it to 8 or 16 bits"):
        read(file(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


def test_cmyk_and_animations() -> None:
    red = Image.new("RGB", (40, 40), (200, 30, 30)).convert("CMYK")
    assert read(file(red, "JPEG", quality=100))[:, 8, 8] == pytest.approx([200, 30, 30], abs=3)
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    for name in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if name == "WEBP" else {}
        data = file(frames[0], name, save_all=True, append_images=frames[1:], **options)
        assert read(data)[:, 3, 3].tolist() == [255, 0, 0]


def png_that_says(width: int, height: int) -> bytes:
    """A PNG of some bytes that claims to be of this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("size", [(8_000, 8_000), (10_000, 10_000), (60_000, 60_000), (2**30, 2)])
def test_a_decompression_bomb_is_not_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with pytest.raises(ImageError, match=r"pixels; expected .* 50,000,000 pixels"):
        read(png_that_says(*size))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"x" * (MOST_IMAGE_BYTES + 1), "more than 16 MiB"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a supported"),
        (b"<!doctype html><script>alert(1)</script>", "not an image of a supported"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "not an image of a supported",
        ),
        (b"\x89PNG\r\n\x1a\n", "not an image of a supported"),
        (file(Image.new("RGB", (9, 9)), "PPM"), "not an image of a supported"),
    ],
)
def test_what_is_no_image_is_told_what_would_be(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        read(data)
    assert "expected PNG, JPEG, WebP, BMP, GIF or TIFF, at most 16 MiB" in str(caught.value)


@pytest.mark.parametrize("name", IMAGE_FORMATS)
def test_a_file_that_is_cut_short_or_damaged_is_refused_or_read(name: str) -> None:
    whole = file(Image.fromarray(random_pixels(60, 90, 3)), name)
    with pytest.raises(ImageError, match=r"broken|not an image"):
        read(whole[: len(whole) // 2])
    random = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, min(len(whole), 400), 5):
            damaged[place] = random.integers(256)
        with suppress(ImageError):
            assert read(bytes(damaged)).shape == (3, 16, 16)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read(tmp_path / "nothing.png")
