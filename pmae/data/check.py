"""Summarise a data set, opened as in training."""

from __future__ import annotations

from typing import NamedTuple

from pmae.data.registry import open_data
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec
from pmae.spec.catalog import dataset_facts


class Contents(NamedTuple):
    """Summary of a data set, formatted for people."""

    name: str
    train: str
    val: str
    test: str
    classes: str
    channels: str
    pixels: str


def check(name: str, settings: StorageSettings, resolution: int | None = None) -> Contents:
    """Open a data set, without decoding image files, and summarise it.

    Args:
        name: as in a spec.
        settings: with the data root.
        resolution: in pixels; default: the data set's.

    Raises:
        SpecError: there is no such data set.
        DataError: it cannot be trained on; says why.
    """
    facts = dataset_facts(name)
    pixels = resolution or facts.resolution
    data = open_data(DatasetSpec(name=name, resolution=pixels), settings)
    kind = " (binary labels)" if data.multi_label else ""
    train, val, test = (f"{len(split):,}" for split in data.splits.values())
    return Contents(
        name,
        train,
        val,
        test,
        classes=f"{data.num_classes}{kind}",
        channels=str(data.image_shape[0]),
        pixels=str(pixels),
    )
