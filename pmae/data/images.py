"""A data set in memory: three splits of uint8 images, and splits that do not leak."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from pmae.errors import DataError
from pmae.seeding import generator

_SPLIT_SEED = 0
"""Splits and subsets are the data set's, not the run's: runs of any seed see the same images."""


@dataclass(frozen=True)
class Split:
    """Images with their classes.

    Attributes:
        images: ``(n, channels, height, width)`` uint8.
        labels: ``(n,)`` int64, classes counted from 0.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        assert self.images.dtype == torch.uint8
        assert self.images.ndim == 4
        assert self.labels.shape == self.images.shape[:1]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> Split:
        """The images at ``indices`` ``(k,)`` int64."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class ImageData:
    """A data set: figures are reported on ``test``, choices are made on ``val``."""

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def split(self, name: str) -> Split:
        """``train``, ``val`` or ``test``."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return splits[name]

    def digest(self) -> str:
        """SHA-256 over every pixel and label, in order: what a basis and a run depend on."""
        sha = hashlib.sha256()
        for split in (self.train, self.val, self.test):
            sha.update(repr(tuple(split.images.shape)).encode())
            sha.update(split.images.contiguous().numpy().data)
            sha.update(split.labels.contiguous().numpy().data)
        return sha.hexdigest()


def carve(split: Split, share: float, index: int) -> tuple[Split, Split]:
    """Cut ``share`` of every class off.

    Args:
        split: what to cut.
        share: of the images of each class, at least one image of a class that has two.
        index: which cut of the data set it is, so that two cuts differ.

    Returns:
        ``(rest, cut)``, disjoint, together all of ``split``, each in the order of ``split``.
    """
    order = torch.randperm(len(split), generator=generator(_SPLIT_SEED, "split", index))
    cut = torch.zeros(len(split), dtype=torch.bool)
    for label in split.labels.unique():
        members = order[split.labels[order] == label]
        if len(members) > 1:
            cut[members[: max(1, round(share * len(members)))]] = True
    return split.take((~cut).nonzero()[:, 0]), split.take(cut.nonzero()[:, 0])


def subset(split: Split, size: int) -> Split:
    """At most ``size`` images, classes as balanced as they can be, in the order of ``split``."""
    if size >= len(split):
        return split
    order = torch.randperm(len(split), generator=generator(_SPLIT_SEED, "subset"))
    labels = split.labels[order]
    rank_in_class = torch.empty(len(split), dtype=torch.int64)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        rank_in_class[members] = torch.arange(len(members))
    by_turns = torch.argsort(rank_in_class, stable=True)[:size]
    return split.take(order[by_turns].sort().values)


def check_splits(data: ImageData) -> ImageData:
    """Refuse a data set that cannot be trained on.

    Raises:
        DataError: a split is empty, or there is one class only.
    """
    for name in ("train", "val", "test"):
        if len(data.split(name)) == 0:
            raise DataError(f"{data.name} has no images for {name}; it needs at least 3 a class")
    if data.num_classes < 2:
        raise DataError(f"{data.name} has {data.num_classes} class; a probe needs at least 2")
    return data
