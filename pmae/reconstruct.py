"""Reconstructions: what a checkpoint makes of what it cannot see.

With ``P`` the projection on what is masked and ``x_hat`` the decoder's image, the six panels are
original ``x``, visible ``x - P x``, target ``P x``, prediction ``P x_hat``, full
``x - P x + P x_hat`` and error ``|x - full|``, all in pixels (de-standardised).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pmae.basis.reach import check_reach
from pmae.basis.store import BasisStore
from pmae.checkpoints import (
    CheckpointConfig,
    Manifest,
    model_weights,
    read_config,
    read_manifest,
    read_weights,
)
from pmae.data.images import Batch, ImageData
from pmae.data.registry import open_data
from pmae.data.standardize import PixelStatistics
from pmae.errors import CheckpointError, SpecError
from pmae.masking import Selection
from pmae.models import MaskedAutoencoder
from pmae.objectives import ComponentObjective, Draw, Objective, objective_for
from pmae.pictures import diverging, intensity
from pmae.residuals import MeanSquares
from pmae.seeding import generator
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec, ExperimentSpec, MaskingSpec, resolve

PANELS = ("original", "visible", "target", "prediction", "full", "error")
_CACHED_DATA_SETS = 2


@dataclass(frozen=True)
class Parts:
    """The parts of some images, all ``(n, channels, height, width)`` float32, standardised."""

    original: Tensor
    target: Tensor
    prediction: Tensor

    @property
    def visible(self) -> Tensor:
        """``x - P x``."""
        return self.original - self.target

    @property
    def full(self) -> Tensor:
        """``x - P x + P x_hat``."""
        return self.visible + self.prediction


@dataclass(frozen=True)
class ReconstructionResult:
    """Reconstructions of some images under one draw of masks.

    Attributes:
        panels: by name (:data:`PANELS`), each ``(n, height, width, 3)`` uint8.
        labels: the class of each image.
        masked_error: the loss of each image: the mean square over what is masked.
        mean_squares: of each component or patch of each image.
        ratio: the ratio asked for; None where none is.
        masked_share: the share really masked, of variance or of patches.
        num_masked: components or patches masked in the first image.
        num_total: components or patches there are.
    """

    panels: dict[str, np.ndarray]
    labels: list[str]
    masked_error: list[float]
    mean_squares: MeanSquares
    ratio: float | None
    masked_share: float
    num_masked: int
    num_total: int


@torch.no_grad()
def reconstruct(
    model: MaskedAutoencoder, objective: Objective, images: Tensor, masked: Tensor
) -> tuple[Parts, MeanSquares]:
    """Reconstruct any images under any mask.

    Args:
        model: in eval mode.
        objective: on the model's device.
        images: ``(n, channels, height, width)``, standardised.
        masked: bool, True = masked: ``(num_total,)`` or ``(n, num_total)``.

    Returns:
        The parts, and the mean squares of each component or patch.
    """
    prediction, _ = objective.predict(model, images, masked)
    parts = Parts(
        original=images,
        target=objective.hidden_part(images, masked),
        prediction=objective.hidden_part(prediction, masked),
    )
    squares = objective.mean_squares(torch.cat([prediction - images, images]))
    residual, target = squares.chunk(2)
    return parts, MeanSquares(residual, target, masked.expand_as(residual))


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint ready to reconstruct its data set's images on the CPU."""

    manifest: Manifest
    config: CheckpointConfig
    model: MaskedAutoencoder
    objective: Objective
    statistics: PixelStatistics
    data: ImageData
    settings: StorageSettings

    @property
    def spec(self) -> ExperimentSpec:
        """The run's resolved spec."""
        return self.config.spec

    @property
    def step(self) -> int:
        """Steps the weights were trained for."""
        return self.manifest.step

    @property
    def epoch(self) -> float:
        """Epochs the weights were trained for."""
        return self.manifest.epoch

    @classmethod
    def load(cls, checkpoint_dir: Path, settings: StorageSettings) -> LoadedCheckpoint:
        """Read a checkpoint, its basis and its data set.

        Raises:
            CheckpointError: it is absent, broken, or was trained on other images than these.
            BasisError: its basis is not in the store.
            DataError: its data set cannot be read.
        """
        manifest, config = read_manifest(checkpoint_dir), read_config(checkpoint_dir)
        weights = read_weights(checkpoint_dir)
        spec = config.spec
        model = MaskedAutoencoder.of(spec, config.channels)
        model.load_state_dict(model_weights(weights))
        digest = config.basis_digest
        basis = BasisStore(settings.bases_dir).load(digest) if digest else None
        data, data_digest = _data(
            spec.dataset, settings, object_masks=spec.masking.needs_object_masks
        )
        if data_digest != config.data_digest:
            raise CheckpointError(
                f"the files of {spec.dataset.name} have changed since the checkpoint was made"
            )
        statistics = PixelStatistics(weights["pixel_mean"], weights["pixel_std"])
        objective = objective_for(spec, basis)
        return cls(manifest, config, model.eval(), objective, statistics, data, settings)

    def reconstruct(
        self,
        *,
        split: str,
        indices: Sequence[int],
        masking: MaskingSpec | None,
        seed: int,
        components: Selection | None = None,
        patches: Selection | None = None,
    ) -> ReconstructionResult:
        """Reconstruct images of the data set under a drawn mask, or under a given one.

        Args:
            split: ``train``, ``val`` or ``test``.
            indices: of the images within the split, from 0.
            masking: default: as the run was trained.
            seed: of a drawn mask.
            components: PMAE: mask exactly these, and draw nothing.
            patches: MAE: mask exactly these, and draw nothing.

        Raises:
            SpecError: no such split, image, component or patch, or a masking that does not suit
                the method or the data set.
            DataError: the masks of the images' objects are needed and cannot be read.
        """
        masking, data = self._masking(masking), self.data
        given = self._given(components, patches, len(indices))
        if given is None and masking.needs_object_masks:
            data, _ = _data(self.spec.dataset, self.settings, object_masks=True)
        chosen = _choose(data, split, indices)
        images = self.statistics.standardize(chosen.images / 255)
        noise = generator(seed, "reconstruct")
        draw = given or self.objective.draw(len(images), masking, noise, chosen.object_masks)
        parts, squares = reconstruct(self.model, self.objective, images, draw.masked)
        return ReconstructionResult(
            panels=panels(parts, self.statistics),
            labels=[data.label_text(label) for label in chosen.labels],
            masked_error=squares.per_image.tolist(),
            mean_squares=squares,
            ratio=draw.ratio,
            masked_share=draw.masked_share,
            num_masked=int(squares.masked[0].sum()),
            num_total=self.objective.num_total,
        )

    def _given(
        self, components: Selection | None, patches: Selection | None, batch: int
    ) -> Draw | None:
        own = self.objective.parts_name
        for name, selection in (("components", components), ("patches", patches)):
            if selection is None:
                continue
            if name != own:
                raise SpecError(
                    f"{name}: a run of method {self.spec.method} masks {own}; name those",
                    field=(name,),
                )
            return self.objective.given(selection, batch)
        return None

    def _masking(self, masking: MaskingSpec | None) -> MaskingSpec:
        if masking is None:
            return self.spec.masking
        masking = resolve(self.spec.model_copy(update={"masking": masking})).masking
        if isinstance(self.objective, ComponentObjective):
            check_reach(masking, self.objective.basis)
        return masking


_STORAGE_FIELDS = set(StorageSettings.model_fields)


def _data(
    dataset: DatasetSpec, settings: StorageSettings, *, object_masks: bool
) -> tuple[ImageData, str]:
    """The data set and its digest, remembered."""
    storage = settings.model_dump_json(include=_STORAGE_FIELDS)
    return _cached_data(dataset.model_dump_json(), storage, object_masks)


@lru_cache(maxsize=_CACHED_DATA_SETS)
def _cached_data(dataset: str, storage: str, object_masks: bool) -> tuple[ImageData, str]:
    settings = StorageSettings.model_validate_json(storage)
    spec = DatasetSpec.model_validate_json(dataset)
    data = open_data(spec, settings, object_masks=object_masks)
    return data, data.digest()


def _choose(data: ImageData, split: str, indices: Sequence[int]) -> Batch:
    if split not in data.splits:
        raise SpecError(
            f"unknown split {split!r}; valid are train, val and test", field=("images", "split")
        )
    images = data.split(split)
    for index in indices:
        if not 0 <= index < len(images):
            raise SpecError(
                f"there is no image {index}; {split} has 0 to {len(images) - 1}",
                field=("images", "indices"),
            )
    return images.take(torch.tensor(list(indices)))


def panels(parts: Parts, statistics: PixelStatistics) -> dict[str, np.ndarray]:
    """The parts as pictures: :data:`PANELS`, each ``(n, height, width, 3)`` uint8.

    Args:
        parts: on the CPU.
        statistics: of the pixels that they are standardised by.
    """

    def pixels(standardized: Tensor) -> np.ndarray:
        return statistics.destandardize(standardized).numpy()

    def deviation(standardized: Tensor) -> np.ndarray:
        values: np.ndarray = (standardized * statistics.std).numpy()
        return values

    target, prediction = deviation(parts.target), deviation(parts.prediction)
    limit = np.abs(target).max(axis=(1, 2, 3))
    error = np.abs(pixels(parts.original) - pixels(parts.full))
    return {
        "original": intensity(pixels(parts.original)),
        "visible": intensity(pixels(parts.visible)),
        "target": diverging(target, limit),
        "prediction": diverging(prediction, limit),
        "full": intensity(pixels(parts.full)),
        "error": intensity(error.mean(axis=1, keepdims=True)),
    }
