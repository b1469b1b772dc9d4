"""Checkpoints for use outside of their run: in a notebook, or as another run's first weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.basis.store import BasisStore
from pmae.checkpoints import (
    MODEL_FILE,
    CheckpointConfig,
    Manifest,
    model_weights,
    newest_valid,
    read_config,
    read_manifest,
    read_weights,
)
from pmae.data.standardize import PixelStatistics
from pmae.errors import BasisError, CheckpointError, SpecError
from pmae.layout import RunDir, stored_checkpoint
from pmae.models import MaskedAutoencoder
from pmae.objectives import Objective, objective_for
from pmae.reconstruct import Parts, reconstruct
from pmae.seeding import generator
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, MaskingSpec, resolve

_BATCH = 256
_MOST_NAMED = 8


def find_checkpoint(reference: str | Path, runs_dir: Path) -> Path:
    """The folder of a checkpoint.

    Args:
        reference: ``<run id>/<checkpoint name>`` or ``<run id>`` of a run below ``runs_dir``; or
            the path of a checkpoint, or of a run, which means its newest valid checkpoint.
        runs_dir: where runs lie.

    Raises:
        CheckpointError: there is none; says where it was looked for.
    """
    stored = stored_checkpoint(runs_dir, str(reference))
    if stored:
        return stored
    path = Path(reference).expanduser()
    if (path / "manifest.json").is_file():
        return path
    for run in (RunDir(path), RunDir(runs_dir / path.name)):
        if run.leases():
            checkpoint, skipped = newest_valid(run)
            if checkpoint:
                return checkpoint
            why = f": {'; '.join(skipped)}" if skipped else " yet"
            raise CheckpointError(f"the run {run.path} has no valid checkpoint{why}")
    raise CheckpointError(
        f"there is no checkpoint {reference}: neither {path.absolute()} is a checkpoint or a run, "
        f"nor does {runs_dir} hold it; valid are <run id>/<checkpoint name> and paths"
    )


@dataclass(frozen=True)
class InitialWeights:
    """The model's weights of another run's checkpoint.

    Attributes:
        source: the checkpoint's folder.
        digest: SHA-256 of its file of weights.
        weights: of encoder and decoder, on the CPU.
    """

    source: Path
    digest: str
    weights: dict[str, Tensor]

    def check(self, spec: ExperimentSpec, channels: int) -> None:
        """Refuse weights of another model than the run's, before anything is computed for it.

        Raises:
            CheckpointError: the two models differ; names the weights.
        """
        with torch.device("meta"):
            model = MaskedAutoencoder.of(spec, channels)
        differences = _differences(self.weights, model.state_dict())
        if differences:
            more = len(differences) - _MOST_NAMED
            listed = "; ".join(differences[:_MOST_NAMED]) + (
                f"; and {more} more" if more > 0 else ""
            )
            raise CheckpointError(
                f"init_from: the model of {self.source} is another than this run's: {listed}"
            )

    def load_into(self, model: MaskedAutoencoder) -> None:
        """Replace the model's weights, which :meth:`check` has let through."""
        model.load_state_dict(self.weights)


def read_initial_weights(spec: ExperimentSpec, settings: StorageSettings) -> InitialWeights | None:
    """What ``init_from`` names, verified; None: the run starts with weights of its own.

    Raises:
        CheckpointError: it is absent or broken.
    """
    if spec.init_from is None:
        return None
    try:
        folder = find_checkpoint(spec.init_from, settings.runs_dir)
        manifest = read_manifest(folder)
    except CheckpointError as error:
        raise CheckpointError(f"init_from: {error}") from error
    weights = model_weights(read_weights(folder))
    return InitialWeights(folder, manifest.files[MODEL_FILE].sha256, weights)


def _differences(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> list[str]:
    found = [
        f"{name} is {tuple(there[name].shape)} there and {tuple(value.shape)} here"
        for name, value in here.items()
        if name in there and there[name].shape != value.shape
    ]
    found += [f"{name} is only here" for name in here if name not in there]
    return found + [f"{name} is only there" for name in there if name not in here]


@dataclass(frozen=True)
class LoadedModel:
    """A trained model with what it needs to be used on any images.

    Attributes:
        folder: of the checkpoint.
        manifest: its name, step and files.
        config: the run's spec, and what its data were.
        model: in eval mode, on the CPU.
        statistics: per-pixel mean and standard deviation of the images it was trained on.
    """

    folder: Path
    manifest: Manifest
    config: CheckpointConfig
    model: MaskedAutoencoder
    statistics: PixelStatistics
    settings: StorageSettings

    @property
    def spec(self) -> ExperimentSpec:
        """The run's resolved spec."""
        return self.config.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the data set it was trained on."""
        return self.config.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of the images it takes."""
        return self.config.channels, self.spec.resolution, self.spec.resolution

    @cached_property
    def basis(self) -> Basis | None:
        """The components that were masked; None for MAE. Read when it is first asked for.

        Raises:
            BasisError: it lies neither in a folder ``bases`` beside the checkpoint or above it,
                nor in the store.
        """
        digest = self.config.basis_digest
        if digest is None:
            return None
        above = [self.folder, *self.folder.absolute().parents]
        stores = [*(folder / "bases" for folder in above), self.settings.bases_dir]
        for store in stores:
            if (store / digest).is_dir():
                return BasisStore(store).load(digest)
        raise BasisError(
            f"the basis {digest} of {self.folder} is neither in {self.folder / 'bases'}, nor in a "
            f"folder bases above it, nor in {self.settings.bases_dir}; copy the folder {digest} of "
            "the service's bases there (encoding images needs no basis)"
        )

    @cached_property
    def objective(self) -> Objective:
        """What the run masked, and its loss.

        Raises:
            BasisError: see :attr:`basis`.
        """
        return objective_for(self.spec, self.basis)

    def preprocess(self, images: Tensor | np.ndarray) -> Tensor:
        """Standardise images as in training.

        Args:
            images: ``(n, channels, height, width)``, uint8, or floats in [0, 1].

        Returns:
            The same shape, float32.

        Raises:
            ValueError: another shape, type or range.
        """
        pixels = torch.as_tensor(images)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != self.image_shape:
            raise ValueError(
                f"images of shape {tuple(pixels.shape)}; valid is (n, "
                f"{', '.join(map(str, self.image_shape))})"
            )
        if pixels.dtype == torch.uint8:
            pixels = pixels / 255
        elif not pixels.is_floating_point():
            raise ValueError(f"images of type {pixels.dtype}; valid are uint8, or floats in [0, 1]")
        elif len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError("float images are to be in [0, 1], or give them as uint8")
        return self.statistics.standardize(pixels.float())

    @torch.no_grad()
    def encode(self, images: Tensor | np.ndarray, *, batch_size: int = _BATCH) -> Tensor:
        """Represent images by their CLS tokens.

        Args:
            images: as :meth:`preprocess` takes them.
            batch_size: how many go through the encoder at once.

        Returns:
            ``(n, embed_dim)`` float32.
        """
        encoder = self.model.encoder
        batches = self.preprocess(images).split(batch_size)
        return torch.cat([encoder(batch)[:, 0] for batch in batches])

    def reconstruct(
        self, images: Tensor | np.ndarray, *, masking: MaskingSpec | None = None, seed: int = 0
    ) -> tuple[Parts, Tensor]:
        """Mask images and let the model predict what it cannot see.

        Args:
            images: as :meth:`preprocess` takes them.
            masking: default: as the run was trained.
            seed: of the mask.

        Returns:
            The parts, in standardised pixels (``statistics.destandardize`` brings ``original``,
            ``visible`` and ``full`` back), and each image's loss ``(n,)``.

        Raises:
            BasisError: see :attr:`basis`.
            SpecError: a masking that does not suit the method.
        """
        pixels, chosen = self.preprocess(images), self.spec.masking
        if masking is not None:
            chosen = resolve(self.spec.model_copy(update={"masking": masking})).masking
        if chosen.needs_object_masks:
            raise SpecError(
                "masking.strategy: segmentation masks the objects of a data set's images, and "
                "nothing is known of these; give a masking by random",
                field=("masking", "strategy"),
            )
        draw = self.objective.draw(len(pixels), chosen, generator(seed, "reconstruct"))
        parts, squares = reconstruct(self.model, self.objective, pixels, draw.masked)
        return parts, squares.per_image


def load_model(reference: str | Path, settings: StorageSettings | None = None) -> LoadedModel:
    """See :func:`pmae.load`."""
    settings = settings or StorageSettings()
    folder = find_checkpoint(reference, settings.runs_dir)
    manifest, config = read_manifest(folder), read_config(folder)
    spec, weights = config.spec, read_weights(folder)
    model = MaskedAutoencoder.of(spec, config.channels)
    model.load_state_dict(model_weights(weights))
    statistics = PixelStatistics(weights["pixel_mean"], weights["pixel_std"])
    return LoadedModel(folder, manifest, config, model.eval(), statistics, settings)
