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
from pmae.checkpoints import CheckpointConfig, Manifest, read_config, read_manifest, read_weights
from pmae.data.images import Batch, ImageData
from pmae.data.registry import open_data
from pmae.data.standardize import PixelStatistics
from pmae.errors import CheckpointError, SpecError
from pmae.models import MaskedAutoencoder
from pmae.objectives import ComponentObjective, Objective, objective_for
from pmae.pictures import diverging, intensity
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
        ratio: the ratio asked for.
        masked_share: the share really masked, of variance or of patches.
        num_masked: components or patches masked in the first image.
        num_total: components or patches there are.
    """

    panels: dict[str, np.ndarray]
    labels: list[str]
    masked_error: list[float]
    ratio: float
    masked_share: float
    num_masked: int
    num_total: int


@torch.no_grad()
def reconstruct(
    model: MaskedAutoencoder, objective: Objective, images: Tensor, masked: Tensor
) -> tuple[Parts, Tensor]:
    """Reconstruct any images under any mask.

    Args:
        model: in eval mode.
        objective: on the model's device.
        images: ``(n, channels, height, width)``, standardised.
        masked: bool, True = masked: ``(num_total,)`` or ``(n, num_total)``.

    Returns:
        The parts, and each image's loss ``(n,)``.
    """
    prediction, _ = objective.predict(model, images, masked)
    parts = Parts(
        original=images,
        target=objective.hidden_part(images, masked),
        prediction=objective.hidden_part(prediction, masked),
    )
    rows = [masked if masked.ndim == 1 else masked[i : i + 1] for i in range(len(images))]
    errors = [
        objective.loss(prediction[i : i + 1], images[i : i + 1], row) for i, row in enumerate(rows)
    ]
    return parts, torch.stack(errors)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint ready to reconstruct its data set's images on the CPU."""

    manifest: Manifest
    config: CheckpointConfig
    model: MaskedAutoencoder
    objective: Objective
    statistics: PixelStatistics
    data: ImageData

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
        model = MaskedAutoencoder(
            spec.model, image_size=spec.resolution, channels=config.channels, seed=spec.seed
        )
        prefix = "model."
        model.load_state_dict(
            {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        )
        digest = config.basis_digest
        basis = BasisStore(settings.bases_dir).load(digest) if digest else None
        data, data_digest = _cached_data(
            spec.dataset.model_dump_json(), settings.model_dump_json(include=_STORAGE_FIELDS)
        )
        if data_digest != config.data_digest:
            raise CheckpointError(
                f"the files of {spec.dataset.name} have changed since the checkpoint was made"
            )
        statistics = PixelStatistics(weights["pixel_mean"], weights["pixel_std"])
        objective = objective_for(spec, basis)
        return cls(manifest, config, model.eval(), objective, statistics, data)

    def reconstruct(
        self, *, split: str, indices: Sequence[int], masking: MaskingSpec | None, seed: int
    ) -> ReconstructionResult:
        """Reconstruct images of the data set under a drawn mask.

        Args:
            split: ``train``, ``val`` or ``test``.
            indices: of the images within the split, from 0.
            masking: default: as the run was trained.
            seed: of the mask.

        Raises:
            SpecError: no such split or image, or a masking that does not suit the method.
        """
        chosen = self._choose(split, indices)
        images = self.statistics.standardize(chosen.images / 255)
        masking = self._masking(masking)
        draw = self.objective.draw(len(images), masking, generator(seed, "reconstruct"))
        parts, errors = reconstruct(self.model, self.objective, images, draw.masked)
        first = draw.masked if draw.masked.ndim == 1 else draw.masked[0]
        return ReconstructionResult(
            panels=_panels(parts, self.statistics),
            labels=[self.data.label_text(label) for label in chosen.labels],
            masked_error=errors.tolist(),
            ratio=draw.ratio,
            masked_share=draw.masked_share,
            num_masked=int(first.sum()),
            num_total=self.objective.num_total,
        )

    def _choose(self, split: str, indices: Sequence[int]) -> Batch:
        if split not in ("train", "val", "test"):
            raise SpecError(
                f"unknown split {split!r}; valid are train, val and test", field=("images", "split")
            )
        images = self.data.split(split)
        for index in indices:
            if not 0 <= index < len(images):
                raise SpecError(
                    f"there is no image {index}; {split} has 0 to {len(images) - 1}",
                    field=("images", "indices"),
                )
        return images.take(torch.tensor(list(indices)))

    def _masking(self, masking: MaskingSpec | None) -> MaskingSpec:
        if masking is None:
            return self.spec.masking
        masking = resolve(self.spec.model_copy(update={"masking": masking})).masking
        if isinstance(self.objective, ComponentObjective):
            check_reach(masking, self.objective.basis)
        return masking


_STORAGE_FIELDS = set(StorageSettings.model_fields)


@lru_cache(maxsize=_CACHED_DATA_SETS)
def _cached_data(dataset: str, storage: str) -> tuple[ImageData, str]:
    settings = StorageSettings.model_validate_json(storage)
    data = open_data(DatasetSpec.model_validate_json(dataset), settings)
    return data, data.digest()


def _panels(parts: Parts, statistics: PixelStatistics) -> dict[str, np.ndarray]:
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
