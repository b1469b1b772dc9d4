"""What is evaluated, and on which images."""

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
        augmentation: of training images, where the protocol augments them; resolved.
        digest: of the data set.
    """

    data: ImageData
    statistics: PixelStatistics
    augmentation: AugmentationSpec
    digest: str


@dataclass(frozen=True)
class Subject:
    """An encoder after some steps of its pretraining.

    Attributes:
        spec: of the run, resolved.
        encoder: on the device that computes; evaluations leave it as it is.
        target: the run's own data set.
        precision: that the encoder computes in.
        sha256: of its checkpoint's ``model.safetensors``.
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
        """Where the encoder is."""
        return self.encoder.cls_token.device

    def untrained_encoder(self) -> Encoder:
        """The encoder as it was before the first step."""
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
            settings: where data sets lie.
            device: that computes.
            precision: that the encoder computes in; None: the pretraining's, where the device has
                it in hardware, and fp32 elsewhere.

        Raises:
            CheckpointError: it is absent, broken, or was trained on other images than these.
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
    """The same images, of which only a fraction of the training ones may be trained on.

    Args:
        target: whose pixel statistics, of all its training images, stay.
        fraction: above 0 and at most 1; at least one image is kept. Classes are as balanced as they
            can be, and a smaller fraction keeps a part of what a larger one keeps.
    """
    if fraction == 1:
        return target
    size = max(1, round(fraction * len(target.data.train)))
    return replace(target, data=replace(target.data, train=subset(target.data.train, size)))


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """What the SHA-256 of ``model.safetensors`` is, or would be, of a module's state."""
    weights = {name: value.detach().cpu() for name, value in state.items()}
    return hashlib.sha256(pack_weights(weights)).hexdigest()


def transfer_target(subject: Subject, dataset: DatasetSpec, settings: StorageSettings) -> Target:
    """Another data set than the subject was pretrained on.

    Its pixels are standardised by its own train split. Crops are drawn as in pretraining, flips
    where this data set's images keep their class.

    Raises:
        DataError: it cannot be read, or its images have other channels.
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
