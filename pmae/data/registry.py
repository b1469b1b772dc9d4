"""From a spec's data set to images in memory."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from pmae.data.catalog import FOLDER_PREFIX
from pmae.data.digits import load_digits
from pmae.data.fashion_mnist import load_fashion_mnist
from pmae.data.folder import load_folder
from pmae.data.images import ImageData, Split, check_splits, subset
from pmae.data.locate import require
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec

_RESIZE_CHUNK = 4096


def load_data(spec: DatasetSpec, settings: StorageSettings) -> ImageData:
    """Read the data set of a resolved spec at the spec's resolution.

    Raises:
        DatasetMissingError: it is not where it was looked for.
        DataError: it cannot be read.
    """
    if spec.resolution is None:
        raise ValueError("dataset.resolution is not resolved")
    if spec.name == "digits":
        data = load_digits()
    elif spec.name.startswith(FOLDER_PREFIX):
        data = load_folder(spec.name, require(spec.name, settings), spec.resolution)
    else:
        data = load_fashion_mnist(require(spec.name, settings))
    train = data.train
    if spec.max_train_images is not None:
        train = subset(train, spec.max_train_images)
    data = replace(
        data,
        train=_at_resolution(train, spec.resolution),
        val=_at_resolution(data.val, spec.resolution),
        test=_at_resolution(data.test, spec.resolution),
    )
    return check_splits(data)


def _at_resolution(split: Split, resolution: int) -> Split:
    if split.images.shape[-2:] == (resolution, resolution):
        return split
    return Split(_resized(split.images, resolution), split.labels)


def _resized(images: Tensor, resolution: int) -> Tensor:
    size = [resolution, resolution]
    return torch.cat(
        [
            transforms.resize(chunk, size, InterpolationMode.BICUBIC, antialias=True)
            for chunk in images.split(_RESIZE_CHUNK)
        ]
    )
