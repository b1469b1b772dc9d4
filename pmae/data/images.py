"""Data sets as three splits of uint8 images with labels.

A split is in memory (:class:`MemorySplit`) or in image files
(:class:`pmae.data.streaming.FileSplit`). Both give the same batches for the same indices, so that
training, statistics and bases work with either.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pmae.errors import DataError
from pmae.runtime.transfer import to_device


class Batch(NamedTuple):
    """Some images of a split.

    Attributes:
        images: ``(n, channels, height, width)`` uint8.
        labels: ``(n,)`` int64 classes, or ``(n, k)`` int64 of 0 and 1 for ``k`` binary labels.
        object_masks: ``(n, height, width)`` uint8, the number of the object that a pixel shows, 0
            for none; None: not loaded.
    """

    images: Tensor
    labels: Tensor
    object_masks: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Copy images and labels to ``device`` asynchronously.

        Object masks stay on the CPU, where masks are drawn.
        """
        images, labels = to_device(self.images, device), to_device(self.labels, device)
        return Batch(images, labels, self.object_masks)


class Split(ABC):
    """The images of ``train``, ``val`` or ``test``, in a fixed order.

    Attributes:
        labels: ``(n,)`` int64 classes from 0, or ``(n, k)`` int64 of 0 and 1.
    """

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def multi_label(self) -> bool:
        """True if images have ``k`` binary labels instead of one class."""
        return self.labels.ndim == 2

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Bytes of the pixels in memory."""

    @abstractmethod
    def take(self, indices: Tensor) -> Batch:
        """Read the images at ``indices`` ``(k,)`` int64, in that order."""

    @abstractmethod
    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        """``take`` for each element of ``indices``, with prefetching where that is faster."""

    @abstractmethod
    def select(self, indices: Tensor) -> Split:
        """Make a split of the images at ``indices`` ``(k,)`` int64 only."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of the split's content."""

    @abstractmethod
    def in_memory(self) -> MemorySplit:
        """Read all images into memory."""

    def in_order(self, size: int) -> Iterator[Batch]:
        """Read every image once, in batches of ``size``; the last one may be smaller."""
        return self.batches(torch.arange(len(self)).split(size))

    def close(self) -> None:  # noqa: B027 - a split in memory holds nothing to release
        """Stop prefetching and release its resources."""


@dataclass(frozen=True)
class MemorySplit(Split):
    """Images in memory.

    Attributes:
        images: ``(n, channels, height, width)`` uint8.
        labels: as in :class:`Split`.
        object_masks: as in :class:`Batch`.
        listing_digest: digest of the files that the images were read from; None: the pixels are
            hashed instead.
    """

    images: Tensor
    labels: Tensor
    object_masks: Tensor | None = None
    listing_digest: str | None = None

    def __post_init__(self) -> None:
        assert self.images.dtype == torch.uint8
        assert self.images.ndim == 4
        assert self.labels.dtype == torch.int64
        assert self.labels.ndim in (1, 2)
        assert len(self.labels) == len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def num_bytes(self) -> int:
        """Bytes of the pixels in memory."""
        masks = 0 if self.object_masks is None else self.object_masks.numel()
        return self.images.numel() + masks

    def take(self, indices: Tensor) -> Batch:
        """Copy the images at ``indices`` ``(k,)`` int64, in that order."""
        masks = self.object_masks
        there = to_device(indices, self.images.device)
        return Batch(
            self.images.index_select(0, there),
            self.labels.index_select(0, there),
            None if masks is None else masks.index_select(0, indices),
        )

    def to(self, device: torch.device) -> MemorySplit:
        """Move images and labels to ``device``, so that batches are gathered there."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        """``take`` for each element of ``indices``."""
        return map(self.take, indices)

    def select(self, indices: Tensor) -> MemorySplit:
        """Make a split of the images at ``indices`` ``(k,)`` int64 only."""
        listing = self.listing_digest
        if listing is not None:
            listing = hashlib.sha256(listing.encode() + indices.numpy().tobytes()).hexdigest()
        return MemorySplit(*self.take(indices), listing_digest=listing)

    def in_memory(self) -> MemorySplit:
        """Return itself."""
        return self

    def digest(self) -> str:
        """SHA-256 over every pixel and label, or the digest of the files they were read from."""
        if self.listing_digest is not None:
            return self.listing_digest
        sha = hashlib.sha256(repr((tuple(self.images.shape), tuple(self.labels.shape))).encode())
        for part in (self.images, self.labels, self.object_masks):
            if part is not None:
                sha.update(part.contiguous().numpy().data)
        return sha.hexdigest()


@dataclass(frozen=True)
class ImageData:
    """A data set: report figures on ``test``, make choices on ``val``.

    Attributes:
        class_names: of the classes, or of the binary labels.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return self.train.image_shape

    @property
    def num_classes(self) -> int:
        """Number of classes, or of binary labels: the outputs of a classifier."""
        return len(self.class_names)

    @property
    def has_val(self) -> bool:
        """True if ``val`` has images."""
        return len(self.val) > 0

    @property
    def multi_label(self) -> bool:
        """True if images have ``num_classes`` binary labels instead of one class."""
        return self.train.multi_label

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name: ``train``, ``val`` and ``test``."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def held_out(self) -> dict[str, Split]:
        """The splits that nothing is trained on: ``val``, if there is one, and ``test``."""
        return {"val": self.val, "test": self.test} if self.has_val else {"test": self.test}

    def split(self, name: str) -> Split:
        """Look up ``train``, ``val`` or ``test``."""
        return self.splits[name]

    def map(self, change: Callable[[Split], Split]) -> ImageData:
        """Apply ``change`` to every split."""
        return replace(self, train=change(self.train), val=change(self.val), test=change(self.test))

    def label_text(self, label: Tensor) -> str:
        """Name an image's label: its class, or those of its binary labels that are 1."""
        if label.ndim == 0:
            return self.class_names[int(label)]
        return ", ".join(self.class_names[index] for index in label.nonzero()[:, 0].tolist())

    def digest(self) -> str:
        """SHA-256 of the splits' digests, in order."""
        parts = [split.digest() for split in self.splits.values()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def has_digest(self, digest: str) -> bool:
        """True if a checkpoint with ``digest`` was trained on these images.

        Checkpoints of the first version hold one hash over all splits, not one of their digests.
        """
        return digest in (self.digest(), self._first_digest())

    def _first_digest(self) -> str | None:
        """The first version's SHA-256 over every pixel and class; None if it had no such data."""
        sha = hashlib.sha256()
        for split in self.splits.values():
            if not isinstance(split, MemorySplit) or split.object_masks is not None:
                return None
            sha.update(repr(tuple(split.images.shape)).encode())
            sha.update(split.images.contiguous().numpy().data)
            sha.update(split.labels.contiguous().numpy().data)
        return sha.hexdigest()

    def close(self) -> None:
        """Stop prefetching in all splits."""
        for split in self.splits.values():
            split.close()


def check_splits(data: ImageData, *, val: bool = True) -> ImageData:
    """Refuse a data set that cannot be trained on.

    Args:
        data: the data set.
        val: False = the validation split may be empty.

    Raises:
        DataError: a split is empty, a label is out of range, or there is one class only.
    """
    classes = data.num_classes
    if classes < 2:
        raise DataError(f"{data.name} has {classes} class; a probe needs at least 2")
    for name, split in data.splits.items():
        if name == "val" and not val:
            continue
        if len(split) == 0:
            raise DataError(f"{data.name} has no images for {name}; it needs at least 3 a class")
        if split.multi_label != data.multi_label or (
            split.multi_label and split.labels.shape[1] != classes
        ):
            shapes = {key: tuple(other.labels.shape) for key, other in data.splits.items()}
            raise DataError(f"{data.name}: the labels have shapes that do not agree: {shapes}")
        max_label = 1 if split.multi_label else classes - 1
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high > max_label:
            raise DataError(
                f"{data.name}: the {name} labels are {low} to {high}; expected 0 to {max_label}"
            )
    return data
