"""ELPV: electroluminescence photographs of solar cells, from PyPI's ``elpv-dataset``.

Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in
Electroluminescence Imagery" (EU PVSEC 2018); Deitsch et al. (Solar Energy 185, 2019, arXiv
1807.02894; Machine Vision and Applications 32, 2021). 2,624 grey photographs of 300 x 300 pixels,
each of a cell of a monocrystalline or polycrystalline module.

The probability of a defect in ``labels.csv`` is an expert's judgement: 0 functional, 1/3 functional
but unsure, 2/3 defective but unsure, 1 defective. Cells above one half are defective here.

There is no public split. A quarter of the cells are the test split (the authors held out as many)
and an eighth of the others the validation split, stratified by the eight groups of type and
probability and drawn with the data sets' fixed seed. The cells' modules are not published, so that
cells of one module may be in different splits.
"""

from __future__ import annotations

from pathlib import Path

import torch

from pmae.data.images import ImageData, Split
from pmae.data.readers.folder import NamedSample, file_split
from pmae.data.splits import carve, hold_out
from pmae.data.streaming import FileSplit
from pmae.errors import DataError

CLASS_NAMES = ("functional", "defective")
TYPES = ("mono", "poly")
PROBABILITIES = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")
_TEST_FRACTION = 0.25
_VAL_FRACTION = 0.125
_FIELDS = 3


def load_elpv(folder: Path, resolution: int, *, val: bool = True) -> ImageData:
    """List the photographs with their labels.

    Args:
        folder: with ``labels.csv`` and ``images``.
        resolution: edge length in pixels.
        val: False = no validation split, and its images stay in the train split.

    Raises:
        DataError: the labels are missing or broken; names the line.
    """
    samples = _samples(folder)
    everything = file_split(folder, samples, resolution=resolution, channels=1)
    rest, test = carve(everything, _TEST_FRACTION, index=0)
    train, held_out = hold_out(rest, _VAL_FRACTION, index=1, wanted=val)
    return ImageData("elpv", _defects(train), _defects(held_out), _defects(test), CLASS_NAMES)


def _defects(split: Split) -> Split:
    """Replace the groups of type and probability by classes."""
    assert isinstance(split, FileSplit)
    probability = split.labels % len(PROBABILITIES)
    return FileSplit(split.files, (probability >= len(PROBABILITIES) // 2).to(torch.int64))


def _samples(folder: Path) -> list[NamedSample]:
    """Read the file and the group of each photograph."""
    path = folder / "labels.csv"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    samples: list[NamedSample] = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if len(fields) != _FIELDS or fields[1] not in PROBABILITIES or fields[2] not in TYPES:
            raise DataError(
                f"{path}, line {number}: expected a file, a probability (one of "
                f"{', '.join(PROBABILITIES)}) and mono or poly, got {line!r}"
            )
        name, probability, kind = fields
        group = TYPES.index(kind) * len(PROBABILITIES) + PROBABILITIES.index(probability)
        samples.append((name, group))
    return samples
