"""Reconstruct images of a checkpoint's own data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self, Unpack

import torch

from pmae.data.images import Batch, ImageData
from pmae.data.registry import open_data
from pmae.errors import CheckpointError, SpecError
from pmae.inference.model import LoadedModel, MaskOptions, read_model
from pmae.inference.reconstruct import ReconstructionResult
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec, ExperimentSpec

_CACHED_DATA_SETS = 2
_STORAGE_FIELDS = set(StorageSettings.model_fields)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that reconstructs images of its run's data set on the CPU.

    The data set is opened when the first image is requested; other images need only ``model``.
    """

    model: LoadedModel

    @classmethod
    def load(cls, checkpoint_dir: Path, settings: StorageSettings) -> Self:
        """Read a checkpoint.

        Raises:
            CheckpointError: it is absent or damaged.
        """
        return cls(read_model(checkpoint_dir, settings))

    @property
    def spec(self) -> ExperimentSpec:
        """The run's resolved spec."""
        return self.model.spec

    @cached_property
    def data(self) -> ImageData:
        """The run's data set.

        Raises:
            CheckpointError: its files have changed since the model was trained.
            DataError: it cannot be read.
        """
        spec = self.model.spec
        needs_objects = spec.masking.needs_object_masks
        data, digest = _data(spec.dataset, self.model.settings, object_masks=needs_objects)
        trained_on = self.model.config.data_digest
        if digest != trained_on and not data.has_digest(trained_on):
            raise CheckpointError(
                f"the files of {spec.dataset.name} have changed since the checkpoint was made"
            )
        return data

    def reconstruct(
        self, *, split: str | None, indices: Sequence[int], **mask: Unpack[MaskOptions]
    ) -> ReconstructionResult:
        """Reconstruct images of the data set under a drawn mask, or under a given one.

        Args:
            split: ``train``, ``val`` or ``test``; None: ``val``, or ``test`` without it.
            indices: of the images within the split, from 0.
            mask: as in :meth:`pmae.inference.model.LoadedModel.reconstruct`.

        Raises:
            SpecError: no such split, image, component or patch, or a masking that does not suit
                the method or the data set.
            CheckpointError: see :attr:`data`.
            DataError: the images, or their object masks, cannot be read.
            BasisError: the basis is missing.
        """
        data, model = self.data, self.model
        given = mask.get("components") is not None or mask.get("patches") is not None
        if not given and model.resolved_masking(mask.get("masking")).needs_object_masks:
            data, _ = _data(model.spec.dataset, model.settings, object_masks=True)
        chosen = _choose(data, split, indices)
        result = model.picture(chosen.images, object_masks=chosen.object_masks, **mask)
        return replace(result, labels=[data.label_text(label) for label in chosen.labels])


def _data(
    dataset: DatasetSpec, settings: StorageSettings, *, object_masks: bool
) -> tuple[ImageData, str]:
    """Open a data set and compute its digest, cached."""
    storage = settings.model_dump_json(include=_STORAGE_FIELDS)
    return _cached_data(dataset.model_dump_json(), storage, object_masks)


@lru_cache(maxsize=_CACHED_DATA_SETS)
def _cached_data(dataset: str, storage: str, object_masks: bool) -> tuple[ImageData, str]:
    settings = StorageSettings.model_validate_json(storage)
    spec = DatasetSpec.model_validate_json(dataset)
    data = open_data(spec, settings, object_masks=object_masks)
    return data, data.digest()


def _choose(data: ImageData, split: str | None, indices: Sequence[int]) -> Batch:
    if split is None:
        split = "val" if data.has_val else "test"
    if split == "val" and not data.has_val:
        raise SpecError(
            "the run has no validation images (dataset.val is none); expected train or test",
            field=("images", "split"),
        )
    if split not in data.splits:
        raise SpecError(
            f"unknown split {split!r}; expected train, val or test", field=("images", "split")
        )
    images = data.split(split)
    for index in indices:
        if not 0 <= index < len(images):
            raise SpecError(
                f"there is no image {index} in {split}; expected 0 to {len(images) - 1}",
                field=("images", "indices"),
            )
    return images.take(torch.tensor(list(indices)))
