"""Crop photographs into a file of MedMNIST's layout."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

IN_PACKAGES: dict[str, tuple[str, ...]] = {
    "mate-backgrounds": ("usr/share/backgrounds/mate/nature/*.jpg",),
    "plasma-workspace-wallpapers": tuple(
        f"usr/share/wallpapers/{name}/contents/images/2560x1600.jpg"
        for name in (
            "BytheWater",
            "ColdRipple",
            "ColorfulCups",
            "DarkestHour",
            "EveningGlow",
            "FallenLeaf",
            "Grey",
            "Kite",
            "OneStandsOut",
            "Path",
            "summer_1am",
        )
    ),
}
"""Photographs in Debian's wallpaper packages (bookworm), whose other pictures are drawings."""
EDGE = 64
"""Edge length of a crop in pixels; a run at 32 scales them down."""
SPLITS = {"train": (0.0, 0.7), "val": (0.7, 0.8), "test": (0.8, 1.0)}
"""Left and right end of the strip of each photograph that a split's crops are from."""
_MIN_STRIP = min(right - left for left, right in SPLITS.values())
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def unpack_packages(folder: Path) -> Path:
    """Download the packages by apt and unpack them; nothing is installed.

    Raises:
        OSError: there is no apt-get or dpkg.
        subprocess.CalledProcessError: a package cannot be fetched.
    """
    for name in IN_PACKAGES:
        subprocess.run(["apt-get", "download", "-qq", name], cwd=folder, check=True)  # noqa: S607
    for package in folder.glob("*.deb"):
        root = folder / package.name.partition("_")[0]
        subprocess.run(["dpkg", "-x", package, root], check=True)  # noqa: S607
    return folder


def packaged_photographs(folder: Path) -> list[Path]:
    """List the photographs in the folders that :func:`unpack_packages` has made."""
    return [
        path
        for package, patterns in IN_PACKAGES.items()
        for pattern in patterns
        for path in sorted((folder / package).glob(pattern))
    ]


def photographs_of(folder: Path) -> list[Path]:
    """List all image files in a folder and its sub-folders."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)


def write_crops(photographs: Sequence[Path], output: Path, total: int) -> dict[str, int]:
    """Crop photographs and write the crops as the data set ``npz:<name>``.

    Each photograph gives the same number of crops. Position and size, from :data:`EDGE` pixels to
    the narrowest strip, are random; an antialiased bicubic filter scales them to :data:`EDGE`. The
    splits are from disjoint strips. A crop's label is the number of its photograph: the layout
    needs one, but it is not a task.

    Args:
        photographs: image files; those too small are left out.
        output: ends in ``.npz``.
        total: number of crops of all splits and photographs.

    Returns:
        Number of crops of each split.

    Raises:
        ValueError: no photograph is large enough.
    """
    images: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    labels: dict[str, list[int]] = {split: [] for split in SPLITS}
    large = [path for path in photographs if _largest_crop(path) >= EDGE]
    if not large:
        raise ValueError(
            f"none of {len(photographs)} photographs is large enough; expected a width of at least "
            f"{round(EDGE / _MIN_STRIP)} pixels and a height of {EDGE}"
        )
    for label, path in enumerate(large):
        noise = np.random.default_rng(label)
        with Image.open(path) as photograph:
            pixels = photograph.convert("RGB")
        for split, (left, right) in SPLITS.items():
            count = round(total / len(large) * (right - left))
            images[split] += _crops(pixels, (left, right), count, noise)
            labels[split] += [label] * count
    arrays = {f"{split}_images": np.stack(found) for split, found in images.items()}
    arrays |= {
        f"{split}_labels": np.array(found, dtype=np.int64)[:, None]
        for split, found in labels.items()
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez(output, **arrays)  # type: ignore[arg-type]
    return {split: len(found) for split, found in images.items()}


def _largest_crop(path: Path) -> int:
    with Image.open(path) as photograph:
        return int(min(photograph.width * _MIN_STRIP, photograph.height))


def _crops(
    photograph: Image.Image, strip: tuple[float, float], count: int, noise: np.random.Generator
) -> Iterator[np.ndarray]:
    """Crop one strip at random: ``(EDGE, EDGE, 3)`` uint8 each."""
    left, right = (round(end * photograph.width) for end in strip)
    largest = int(min(photograph.width * _MIN_STRIP, photograph.height, right - left))
    for _ in range(count):
        edge = int(noise.integers(EDGE, largest, endpoint=True))
        x = int(noise.integers(left, right - edge, endpoint=True))
        y = int(noise.integers(0, photograph.height - edge, endpoint=True))
        box = (x, y, x + edge, y + edge)
        crop = photograph.resize((EDGE, EDGE), Image.Resampling.BICUBIC, box=box)
        yield np.asarray(crop)
