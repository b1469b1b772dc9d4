"""The encoder to evaluate, and the images to evaluate it on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pmae.data.images import ImageData
from pmae.data.registry import load_data
from pmae.data.splits import subset
from pmae.data.transforms.floor import train_statistics
from pmae.data.transforms.standardize import PixelStatistics
from pmae.errors import CheckpointError, DataError
from pmae.models.autoencoder import Encoder, MaskedAutoencoder
from pmae.runs.checkpoints import (
    model_weights,
    pack_weights,
    read_config,
    read_manifest,
    read_weights,
)
from pmae.runs.layout import MODEL_FILE
from pmae.settings import StorageSettings
from pmae.spec import AugmentationSpec, DatasetSpec, ExperimentSpec
from pmae.spec.catalog import dataset_facts
from pmae.training.environment import Precision, evaluation_precision


@dataclass(frozen=True)
class Target:
    """The images that an encoder is evaluated on.

    Attributes:
        statistics: of the train split, on the CPU.
        augmentation: of training images, if the protocol augments them; resolved.
        digest: of the data set.
    """

    data: ImageData
    statistics: PixelStatistics
    augmentation: AugmentationSpec
    digest: str


@dataclass(frozen=True)
class Subject:
    """An encoder at some step of its pretraining.

    Attributes:
        spec: of the run, resolved.
        encoder: on the device that computes; evaluations do not change it.
        target: the run's own data set.
        sha256: of its checkpoint's ``model.safetensors``.
        precision: of the encoder's products.
    """

    spec: ExperimentSpec
    encoder: Encoder
    target: Target
    step: int
    epoch: float
    sha256: str
    precision: Precision = "fp32"

    @property
    def device(self) -> torch.device:
        """The encoder's device."""
        return self.encoder.cls_token.device

    def untrained_encoder(self) -> Encoder:
        """Make the encoder with its weights before the first step."""
        channels = self.target.data.image_shape[0]
        return MaskedAutoencoder.of(self.spec, channels).encoder.to(self.device)

    @classmethod
    def load(
        cls,
        folder: Path,
        settings: StorageSettings,
        device: torch.device,
        precision: Precision | None = None,
    ) -> Subject:
        """Read a checkpoint and its data set.

        Args:
            folder: of the checkpoint.
            settings: with the data root.
            device: to compute on.
            precision: of the encoder's products; None: the pretraining's if the device has it in
                hardware, else fp32.

        Raises:
            CheckpointError: it is absent or damaged, or its data set's files have changed.
            DataError: its data set cannot be read.
        """
        manifest, config, weights = read_manifest(folder), read_config(folder), read_weights(folder)
        model = MaskedAutoencoder.of(config.spec, config.channels)
        model.load_state_dict(model_weights(weights))
        data = load_data(
            config.spec.dataset,
            settings,
            object_masks=config.spec.masking.needs_object_masks,  # they are part of the digest
        )
        if not data.has_digest(config.data_digest):
            raise CheckpointError(
                f"the files of {data.name} have changed since the checkpoint was made"
            )
        statistics = PixelStatistics(weights["pixel_mean"], weights["pixel_std"])
        return cls(
            spec=config.spec,
            encoder=model.encoder.to(device),
            target=Target(data, statistics, config.spec.augmentation, data.digest()),
            step=manifest.step,
            epoch=manifest.epoch,
            sha256=manifest.files[MODEL_FILE].sha256,
            precision=evaluation_precision(precision, config.spec.precision, device),
        )


def labelled(target: Target, fraction: float) -> Target:
    """Keep only a fraction of the training images; the pixel statistics stay those of all.

    Args:
        target: to reduce.
        fraction: above 0 and at most 1; at least one image is kept. Classes are as balanced as
            possible, and a smaller fraction keeps a subset of a larger one's images.
    """
    if fraction == 1:
        return target
    size = max(1, round(fraction * len(target.data.train)))
    return replace(target, data=replace(target.data, train=subset(target.data.train, size)))


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the ``model.safetensors`` that a module's state is saved as."""
    weights = {name: value.detach().cpu() for name, value in state.items()}
    return hashlib.sha256(pack_weights(weights)).hexdigest()


def transfer_target(subject: Subject, dataset: DatasetSpec, settings: StorageSettings) -> Target:
    """Load another data set than the pretraining's.

    Its pixels are standardised by its own train split. Crops are drawn as in pretraining; flips
    depend on whether mirrored images of this data set keep their class.

    Raises:
        DataError: it cannot be read, or its images have another number of channels.
    """
    data = load_data(dataset, settings)
    channels, needed = data.image_shape[0], subject.target.data.image_shape[0]
    if channels != needed:
        raise DataError(
            f"{data.name} has images of {channels} channels, the encoder takes {needed}; choose "
            "another data set for the evaluation"
        )
    flip = dataset_facts(dataset.name).horizontal_flip
    augmentation = subject.spec.augmentation.model_copy(update={"horizontal_flip": flip})
    statistics, _ = train_statistics(data.train, dataset.std_floor, augmentation)
    return Target(data, statistics, augmentation, data.digest())
