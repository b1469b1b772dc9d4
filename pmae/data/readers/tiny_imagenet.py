"""Tiny ImageNet from the folders of its zip file (Stanford CS231n): 200 classes, 64 pixels.

The public test images have no labels, so the validation images are the test split, and val is held
out of train.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pmae.data.images import ImageData
from pmae.data.readers.folder import NamedSample, file_split
from pmae.data.splits import hold_out
from pmae.errors import DataError

_VAL_FRACTION = 0.05
"""25 of the 500 training images of each class."""
_SUFFIX = ".JPEG"


def load_tiny_imagenet(folder: Path, resolution: int, *, val: bool = True) -> ImageData:
    """List the images; classes are ordered by WordNet id.

    Raises:
        DataError: a folder or annotation is missing, or names an unknown class.
    """
    wnids = sorted(_lines(folder / "wnids.txt"))
    everything = file_split(
        folder, _train_samples(folder, wnids), resolution=resolution, channels=3
    )
    train, held_out = hold_out(everything, _VAL_FRACTION, index=0, wanted=val)
    test = file_split(folder, _val_samples(folder, wnids), resolution=resolution, channels=3)
    return ImageData("tiny_imagenet", train, held_out, test, _class_names(folder, wnids))


def _train_samples(folder: Path, wnids: list[str]) -> list[NamedSample]:
    samples: list[NamedSample] = []
    for label, wnid in enumerate(wnids):
        images = folder / "train" / wnid / "images"
        if not images.is_dir():
            raise DataError(f"{images} is missing, but wnids.txt lists the class {wnid}")
        names = sorted(path.name for path in images.iterdir() if path.suffix == _SUFFIX)
        if not names:
            raise DataError(f"{images} holds no {_SUFFIX} images")
        samples.extend((f"train/{wnid}/images/{name}", label) for name in names)
    return samples


def _val_samples(folder: Path, wnids: list[str]) -> list[NamedSample]:
    annotations = folder / "val" / "val_annotations.txt"
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    samples: list[NamedSample] = []
    for number, line in enumerate(_lines(annotations), start=1):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in label_of:
            raise DataError(
                f"{annotations}, line {number}: expected an image and a class of wnids.txt, "
                f"tab-separated, got {line!r}"
            )
        samples.append((f"val/images/{fields[0]}", label_of[fields[1]]))
    return samples


def _class_names(folder: Path, wnids: list[str]) -> tuple[str, ...]:
    """The first English name of each class, with its id where two classes share the name."""
    path = folder / "words.txt"
    words = dict(line.split("\t", 1) for line in _lines(path) if "\t" in line)
    names = [words[wnid].split(",")[0].strip() if wnid in words else wnid for wnid in wnids]
    count = Counter(names)
    return tuple(
        name if count[name] == 1 else f"{name} ({wnid})"
        for name, wnid in zip(names, wnids, strict=True)
    )


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
