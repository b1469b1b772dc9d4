"""Fit the basis of a spec to its train images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.basis.exact import ieee_fp32
from pmae.basis.fixed import fit_dct, fit_random
from pmae.basis.kernel import fit_kernel
from pmae.basis.pca import PASSES, fit_pca, fit_randomized_pca
from pmae.basis.store import FitKey
from pmae.data.images import Split
from pmae.data.transforms.augment import augment
from pmae.data.transforms.standardize import PixelStatistics
from pmae.seeding import generator
from pmae.spec import AugmentationSpec, BasisSpec, ExperimentSpec
from pmae.spec.parts.basis import check_basis
from pmae.spec.sizes import fit_components

_BATCH_VALUES = 1 << 22
_MAX_BATCH = 1024
_CPU = torch.device("cpu")
_ON_DEVICE = ("pca", "pca_augmented")
_FIT_INDEX, _CHOICE_INDEX = 0, 1
"""Seed indices: of the sketch or rotation, and of the choice of images to fit on."""

Report = Callable[[int, int], None]
"""Progress callback: called with the number of images read so far and the total."""


def fit_key(spec: ExperimentSpec, data_digest: str) -> FitKey:
    """Make the key of a resolved spec's basis; ``dataset.std_floor`` must be set."""
    basis, std_floor = _basis_of(spec), spec.dataset.std_floor
    if std_floor is None:
        raise ValueError(
            "dataset.std_floor is not set; pmae.data.transforms.floor.train_statistics chooses it"
        )
    augmented = basis.kind == "pca_augmented"
    return FitKey(
        kind=basis.kind,
        data_digest=data_digest,
        resolution=spec.resolution,
        std_floor=std_floor,
        num_components=basis.num_components,
        solver="randomized" if basis.solver == "randomized" else None,
        fit_images=basis.fit_images,
        passes=basis.passes,
        bandwidth=basis.bandwidth,
        seed=basis.seed,
        augmentation=spec.augmentation.model_dump(mode="json") if augmented else None,
    )


def fit_basis(
    spec: ExperimentSpec,
    train: Split,
    statistics: PixelStatistics,
    report: Report,
    device: torch.device = _CPU,
) -> Basis:
    """Fit the basis of a resolved PMAE spec.

    Args:
        spec: resolved.
        train: the train split.
        statistics: of the train split.
        report: called after each batch.
        device: to compute principal components on; other bases are computed on the CPU.

    Raises:
        SpecError: a field of the basis that does not suit the images.
        BasisError: too few images, no variance, or values that are not finite.
    """
    basis = _basis_of(spec)
    num_pixels = train.image_shape[0] * train.image_shape[1] * train.image_shape[2]
    check_basis(basis, num_pixels, num_pixels)
    augmentation = spec.augmentation if basis.kind == "pca_augmented" else None
    device = device if basis.kind in _ON_DEVICE else _CPU
    images = FitImages(train, statistics.to(device), basis, augmentation, device)
    with ieee_fp32(device):
        return _fit(basis, images, train.image_shape, report)


def _fit(
    basis: BasisSpec, images: FitImages, image_shape: tuple[int, int, int], report: Report
) -> Basis:
    num_pixels = image_shape[0] * image_shape[1] * image_shape[2]
    if basis.solver == "randomized":
        return _fit_randomized(basis, images, report)
    kept = basis.num_components
    batches = images.batches(report)
    if basis.kind == "dct":
        return fit_dct(batches, image_shape, num_components=kept)
    if basis.kind == "random":
        noise = generator(basis.seed or 0, "basis", _FIT_INDEX)
        return fit_random(batches, num_pixels, kept or num_pixels, noise)
    if basis.kind == "kernel":
        bandwidth = basis.bandwidth if isinstance(basis.bandwidth, float) else None
        return fit_kernel(batches, bandwidth=bandwidth, num_components=kept)
    return fit_pca(batches, num_components=kept)


def _fit_randomized(basis: BasisSpec, images: FitImages, report: Report) -> Basis:
    kept = fit_components(basis, images.total)
    assert kept is not None
    started = iter(range(PASSES))

    def batches() -> Iterator[Tensor]:
        before = next(started) * images.total
        return images.batches(lambda done, total: report(before + done, PASSES * total))

    noise = generator(basis.seed or 0, "basis", _FIT_INDEX)
    return fit_randomized_pca(batches, num_components=kept, generator=noise)


@dataclass(frozen=True)
class FitImages:
    """The images that a basis is fitted on, the same in each pass.

    Attributes:
        train: the train split.
        statistics: of the train split.
        basis: resolved.
        augmentation: resolved; None: images are not augmented.
        device: of the batches and of the statistics.
    """

    train: Split
    statistics: PixelStatistics
    basis: BasisSpec
    augmentation: AugmentationSpec | None
    device: torch.device = _CPU

    @property
    def indices(self) -> Tensor:
        """Indices of the images in the train split: int64, ascending."""
        num_train, fit_images = len(self.train), self.basis.fit_images
        if fit_images is None or fit_images >= num_train:
            return torch.arange(num_train)
        noise = generator(self.basis.seed or 0, "basis", _CHOICE_INDEX)
        return torch.randperm(num_train, generator=noise)[:fit_images].sort().values

    @property
    def total(self) -> int:
        """Number of images that :meth:`batches` yields, counting each augmented copy."""
        return len(self.indices) * (self.basis.passes or 1)

    def batches(self, report: Report) -> Iterator[Tensor]:
        """Read standardised images, in batches ``(batch, channels, height, width)``."""
        channels, height, width = self.train.image_shape
        size = min(_MAX_BATCH, max(1, _BATCH_VALUES // (channels * height * width)))
        indices, total = self.indices, self.total
        done, drawn = 0, 0
        for _ in range(self.basis.passes or 1):
            for read in self.train.batches(indices.split(size)):
                batch = read.to(self.device)
                if self.augmentation is None:
                    pixels = batch.images / 255
                else:
                    noise = generator(self.basis.seed or 0, "basis_augment", drawn)
                    pixels = augment(batch.images, self.augmentation, noise)
                yield self.statistics.standardize(pixels)
                done, drawn = done + len(pixels), drawn + 1
                report(done, total)


def _basis_of(spec: ExperimentSpec) -> BasisSpec:
    if spec.basis is None:
        raise ValueError(f"{spec.method} has no basis")
    return spec.basis
