"""Images in class-per-folder trees: ``folder:<name>`` under the data root."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.datasets import ImageFolder

from pmae.data.images import ImageData, Split, carve
from pmae.errors import DataError

_SPLITS = ("train", "val", "test")
_TEST_SHARE = 0.2
_VAL_SHARE = 0.1
_GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "F"})


def load_folder(name: str, folder: Path, resolution: int) -> ImageData:
    """Read every image, cut to a centred square of ``resolution`` pixels.

    With sub-folders ``train`` and, if they are there, ``val`` and ``test``, these are the splits;
    what is missing is cut from ``train``, classes in equal shares. Without them the folder itself
    holds the classes. The images are grey if all files are, else RGB.

    Raises:
        DataError: no images, classes that differ between splits, or a file that is no image.
    """
    if (folder / "train").is_dir():
        roots = {split: folder / split for split in _SPLITS if (folder / split).is_dir()}
    else:
        roots = {"train": folder}
    listings = {split: _listing(root) for split, root in roots.items()}
    classes = listings["train"].classes
    for split, listing in listings.items():
        if listing.classes != classes:
            raise DataError(
                f"{roots[split]} has the classes {listing.classes}, train has {classes}"
            )
    files = [path for listing in listings.values() for path, _ in listing.samples]
    mode = "L" if all(_is_grey(Path(path)) for path in files) else "RGB"
    splits = {split: _read(listing, resolution, mode) for split, listing in listings.items()}
    if "test" not in splits:
        splits["train"], splits["test"] = carve(splits["train"], _TEST_SHARE, index=0)
    if "val" not in splits:
        splits["train"], splits["val"] = carve(splits["train"], _VAL_SHARE, index=1)
    return ImageData(name, splits["train"], splits["val"], splits["test"], tuple(classes))


def _listing(root: Path) -> ImageFolder:
    try:
        return ImageFolder(str(root))
    except FileNotFoundError as error:
        raise DataError(f"{root} holds no class folders with images: {error}") from error


def _is_grey(path: Path) -> bool:
    with _opened(path) as image:
        return image.mode in _GREY_MODES


def _read(listing: ImageFolder, resolution: int, mode: str) -> Split:
    channels = 1 if mode == "L" else 3
    images = np.empty((len(listing.samples), channels, resolution, resolution), np.uint8)
    for row, (path, _) in enumerate(listing.samples):
        images[row] = _read_image(Path(path), resolution, mode)
    return Split(torch.from_numpy(images), torch.tensor(listing.targets, dtype=torch.int64))


def _read_image(path: Path, resolution: int, mode: str) -> np.ndarray:
    with _opened(path) as image:
        try:
            square = ImageOps.fit(
                image.convert(mode), (resolution, resolution), Image.Resampling.BICUBIC
            )
        except OSError as error:
            raise DataError(f"{path} is broken: {error}") from error
    pixels = np.asarray(square)
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path} is not an image: {error}") from error
