"""A split streamed from image files, decoded by workers that prefetch batches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pmae.data.decode import read_image, read_object_mask
from pmae.data.images import Batch, MemorySplit, Split
from pmae.data.loader_workers import start_worker, starting_workers
from pmae.errors import DataError
from pmae.spec.catalog import Fit

_FILL_BATCH = 256
_BATCHES_AHEAD = 2
"""Batches that each worker prefetches."""


class Decoded(NamedTuple):
    """One batch as decoded by a worker."""

    indices: Tensor
    images: Tensor
    object_masks: Tensor | None


@dataclass(frozen=True, kw_only=True)
class ImageFiles(Dataset[Decoded]):
    """Image files, and how to decode them.

    Names are one array of bytes: a list of a million strings would be copied into every worker,
    page by page, as reference counts change.

    Attributes:
        root: folder that the names are relative to.
        names: ``(n,)`` bytes.
        mask_names: ``(n,)`` bytes, of the object masks; None: not read.
        resolution: edge length in pixels of the squares.
        channels: 1 (grey) or 3 (RGB).
        fit: how to make an oblong image square.
    """

    root: Path
    names: np.ndarray
    mask_names: np.ndarray | None = None
    resolution: int
    channels: int
    fit: Fit

    def path(self, name: bytes) -> Path:
        """The path of a file."""
        return self.root / os.fsdecode(name)

    def decode(self, indices: Sequence[int]) -> Decoded:
        """Read the images at ``indices``.

        Raises:
            DataError: a file is missing or broken.
        """
        size = self.resolution
        images = np.empty((len(indices), self.channels, size, size), np.uint8)
        masks = None if self.mask_names is None else np.empty((len(indices), size, size), np.uint8)
        for row, index in enumerate(indices):
            images[row] = read_image(
                self.path(self.names[index]), resolution=size, channels=self.channels, fit=self.fit
            )
            if masks is not None and self.mask_names is not None:
                masks[row] = read_object_mask(
                    self.path(self.mask_names[index]), resolution=size, fit=self.fit
                )
        return Decoded(
            torch.tensor(indices, dtype=torch.int64),
            torch.from_numpy(images),
            None if masks is None else torch.from_numpy(masks),
        )

    def __getitems__(self, indices: list[int]) -> Decoded | DataError:
        """Decode a batch in a worker; return an error, since raising would lose its message."""
        try:
            return self.decode(indices)
        except DataError as error:
            return error


class _Steps:
    """Batch sampler of the data loader: yields the indices of the current pass."""

    def __init__(self) -> None:
        self.indices: Iterable[Tensor] = ()

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.indices)


class FileSplit(Split):
    """Images in files.

    The digest is that of file names, sizes and labels, not of the pixels, so that it needs no pass
    over the images.

    Args:
        files: the images.
        labels: as in :class:`Split`.
        workers: processes that decode ahead, started by the first pass and kept for later ones; 0:
            decode in this process.
    """

    def __init__(self, files: ImageFiles, labels: Tensor, *, workers: int = 0) -> None:
        assert labels.dtype == torch.int64
        assert len(labels) == len(files.names)
        self.files = files
        self.labels = labels
        self.workers = workers
        self._steps = _Steps()
        self._loader: DataLoader[Decoded] | None = None
        self._busy = False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return self.files.channels, self.files.resolution, self.files.resolution

    @property
    def num_bytes(self) -> int:
        """Bytes that the pixels would take in memory."""
        layers = self.files.channels + (self.files.mask_names is not None)
        return len(self) * layers * self.files.resolution**2

    def take(self, indices: Tensor) -> Batch:
        """Decode the images at ``indices`` ``(k,)`` int64 in this process.

        Raises:
            DataError: a file is missing or broken.
        """
        return self._batch(self.files.decode(indices.tolist()))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        """``take`` for each element of ``indices``, prefetched by the workers.

        Each of two passes at the same time has its own workers.

        Raises:
            DataError: a file is missing or broken.
        """
        if not self.workers:
            yield from map(self.take, indices)
            return
        if self._busy:
            other = FileSplit(self.files, self.labels, workers=self.workers)
            try:
                yield from other.batches(indices)
            finally:
                other.close()
            return
        self._busy = True
        try:
            self._steps.indices = indices
            if self._loader is None:
                self._loader = self._new_loader()
            with starting_workers():
                passing = iter(self._loader)
            for decoded in passing:
                yield self._batch(decoded)
        finally:
            self._busy = False

    def select(self, indices: Tensor) -> FileSplit:
        """Make a split of the images at ``indices`` ``(k,)`` int64 only."""
        rows = indices.numpy()
        masks = self.files.mask_names
        files = replace(
            self.files,
            names=self.files.names[rows],
            mask_names=None if masks is None else masks[rows],
        )
        return FileSplit(files, self.labels[indices], workers=self.workers)

    def digest(self) -> str:
        """SHA-256 over the files' names, sizes and labels, and over the decoding options.

        Raises:
            DataError: a file is missing.
        """
        files = self.files
        sha = hashlib.sha256(repr((self.image_shape, files.fit, self.labels.shape)).encode())
        sha.update(self.labels.contiguous().numpy().data)
        for names in (files.names, files.mask_names):
            for name in () if names is None else names:
                sha.update(name + b"\0" + str(_size(files.path(name))).encode() + b"\0")
        return sha.hexdigest()

    def in_memory(self) -> MemorySplit:
        """Read all images into memory; the digest stays that of the files."""
        channels, size, _ = self.image_shape
        images = torch.empty(len(self), channels, size, size, dtype=torch.uint8)
        masks = None
        if self.files.mask_names is not None:
            masks = torch.empty(len(self), size, size, dtype=torch.uint8)
        there = 0
        for batch in self.in_order(_FILL_BATCH):
            rows = slice(there, there + len(batch.images))
            images[rows] = batch.images
            if masks is not None:
                assert batch.object_masks is not None
                masks[rows] = batch.object_masks
            there = rows.stop
        self.close()
        return MemorySplit(images, self.labels, masks, listing_digest=self.digest())

    def close(self) -> None:
        """End the workers."""
        self._loader = None

    def _batch(self, decoded: Decoded | DataError) -> Batch:
        if isinstance(decoded, DataError):
            raise decoded
        return Batch(decoded.images, self.labels[decoded.indices], decoded.object_masks)

    def _new_loader(self) -> DataLoader[Decoded]:
        # Spawn, since this process has threads, and a forked worker would inherit its GPU.
        return DataLoader(
            self.files,
            batch_sampler=self._steps,
            collate_fn=_unchanged,
            num_workers=self.workers,
            prefetch_factor=_BATCHES_AHEAD,
            persistent_workers=True,
            multiprocessing_context="spawn",
            worker_init_fn=start_worker,
            pin_memory=torch.cuda.is_available(),
            # So that a pass draws nothing from torch's global generator.
            generator=torch.Generator(),
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _unchanged(decoded: Any) -> Any:
    return decoded
