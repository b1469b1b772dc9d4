"""Names and properties of the data sets. Imports no torch: the API validates specs with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pmae.errors import SpecError

FOLDER_PREFIX = "folder:"
NPZ_PREFIX = "npz:"
MEDMNIST_SIZES = (28, 64, 128, 224)
"""Edge lengths in pixels that MedMNIST+ comes in, a file each."""
Fit = Literal["crop", "squash"]
"""Make an oblong image square: crop its centre, or resize it without keeping its aspect ratio."""
_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """Properties of a data set that are known before its files are read.

    Attributes:
        name: as in a spec.
        title: for people.
        resolution: default edge length in pixels of the square images.
        patch_size: default edge length in pixels of a patch; divides ``resolution``.
        channels: 1 (grey) or 3 (RGB); None: depends on the files.
        num_classes: number of classes, or of binary labels; None: depends on the files.
        horizontal_flip: True = mirrored images keep their class.
        source: where it comes from and how to get it.
        train_images: size of the train split, without the images held out for validation; None:
            depends on the files.
        held_out_images: training images held out for validation; 0 if ``train_images`` is None.
        object_masks: True = it may come with masks of the objects in its images.
        fit: how oblong images are made square.
        binary_labels: True = images have several binary labels instead of one class; only where
            ``num_classes`` is known.
    """

    name: str
    title: str
    resolution: int
    patch_size: int
    channels: int | None
    num_classes: int | None
    horizontal_flip: bool
    source: str
    train_images: int | None = None
    held_out_images: int = 0
    object_masks: bool = False
    fit: Fit = "crop"
    binary_labels: bool = False


def _medmnist(name: str, title: str, num_classes: int, train_images: int) -> DatasetFacts:
    return DatasetFacts(
        name=name,
        title=title,
        resolution=64,
        patch_size=8,
        channels=3,
        num_classes=num_classes,
        horizontal_flip=True,
        source=(
            f"`pmae data download {name}` (--resolution 28, 64, 128 or 224), or MedMNIST's "
            f"{name}_64.npz ({name}.npz for 28 pixels) in the data root"
        ),
        train_images=train_images,
    )


DATASETS: dict[str, DatasetFacts] = {
    facts.name: facts
    for facts in (
        DatasetFacts(
            name="digits",
            title="Handwritten digits (UCI, 1,797 images)",
            resolution=8,
            patch_size=2,
            channels=1,
            num_classes=10,
            horizontal_flip=False,
            source="bundled with scikit-learn; nothing to download",
            train_images=1_259,
            held_out_images=179,
        ),
        DatasetFacts(
            name="fashion_mnist",
            title="Fashion-MNIST (70,000 images)",
            resolution=28,
            patch_size=7,
            channels=1,
            num_classes=10,
            horizontal_flip=True,
            source=(
                "`pmae data download fashion_mnist`, or Debian's package dataset-fashion-mnist, "
                "or a folder of the four idx files named by PMAE_FASHION_MNIST_DIR"
            ),
            train_images=55_000,
            held_out_images=5_000,
        ),
        DatasetFacts(
            name="cifar10",
            title="CIFAR-10 (60,000 images)",
            resolution=32,
            patch_size=8,
            channels=3,
            num_classes=10,
            horizontal_flip=True,
            source=(
                "`pmae data download cifar10`, or cifar-10-python.tar.gz unpacked in the data root"
            ),
            train_images=45_000,
            held_out_images=5_000,
        ),
        DatasetFacts(
            name="tiny_imagenet",
            title="Tiny ImageNet (110,000 labelled images)",
            resolution=64,
            patch_size=8,
            channels=3,
            num_classes=200,
            horizontal_flip=True,
            source=(
                "`pmae data download tiny_imagenet`, or tiny-imagenet-200.zip unpacked in the "
                "data root"
            ),
            train_images=95_000,
            held_out_images=5_000,
        ),
        _medmnist("bloodmnist", "BloodMNIST (17,092 blood cells)", 8, 11_959),
        _medmnist("dermamnist", "DermaMNIST (10,015 skin lesions)", 7, 7_007),
        _medmnist("pathmnist", "PathMNIST (107,180 tissue patches)", 9, 89_996),
        DatasetFacts(
            name="elpv",
            title="ELPV (2,624 photographs of solar cells, defective or not)",
            resolution=64,
            patch_size=8,
            channels=1,
            num_classes=2,
            horizontal_flip=True,
            source=(
                "`pip install 'pmae[elpv]'`, or `pip install --no-deps --target DATA_ROOT/elpv "
                "elpv-dataset` into the data root (PyPI, 91 MB; CC BY-NC-SA 4.0: not for "
                "commercial use)"
            ),
            train_images=1_724,
            held_out_images=246,
        ),
        DatasetFacts(
            name="clevr",
            title="CLEVR (85,000 rendered scenes, 24 binary labels)",
            resolution=224,
            patch_size=16,
            channels=3,
            num_classes=24,
            horizontal_flip=True,
            source=(
                "`pmae data download clevr` (18 GB), or CLEVR_v1.0.zip unpacked in the data root; "
                "object masks are not part of it: docs/datasets.md says how to lay them out"
            ),
            train_images=66_500,
            held_out_images=3_500,
            object_masks=True,
            fit="squash",
            binary_labels=True,
        ),
        DatasetFacts(
            name="imagenet",
            title="ImageNet-1k (1,331,167 labelled images)",
            resolution=224,
            patch_size=16,
            channels=3,
            num_classes=1000,
            horizontal_flip=True,
            source=(
                "image-net.org gives it to those who register; unpack it as "
                "<data root>/imagenet/train/<class>/*.JPEG and imagenet/val/<class>/*.JPEG"
            ),
        ),
    )
}
MEDMNIST = ("bloodmnist", "dermamnist", "pathmnist")


def medmnist_size(resolution: int) -> int:
    """The smallest of MedMNIST+'s sizes not below a resolution, or else the largest."""
    return next((size for size in MEDMNIST_SIZES if size >= resolution), MEDMNIST_SIZES[-1])


def medmnist_file(name: str, resolution: int) -> str:
    """The name of MedMNIST's file for a resolution."""
    size = medmnist_size(resolution)
    return f"{name}.npz" if size == MEDMNIST_SIZES[0] else f"{name}_{size}.npz"


def _folder_facts(name: str) -> DatasetFacts:
    return DatasetFacts(
        name=name,
        title=f"Images in the folder {name.removeprefix(FOLDER_PREFIX)}",
        resolution=32,
        patch_size=8,
        channels=None,
        num_classes=None,
        horizontal_flip=True,
        source="<data root>/<name>/<class>/*.png, or train, val and test folders of classes",
    )


def _npz_facts(name: str) -> DatasetFacts:
    return DatasetFacts(
        name=name,
        title=f"Images in the file {name.removeprefix(NPZ_PREFIX)}.npz",
        resolution=64,
        patch_size=8,
        channels=None,
        num_classes=None,
        horizontal_flip=True,
        source=(
            "<data root>/<name>.npz in MedMNIST's layout: train_images (n, height, width) or "
            "(n, height, width, 3) of uint8 and train_labels (n, 1) or (n, k), and if there are "
            "any the same for val and test"
        ),
    )


def own_facts(name: str) -> DatasetFacts:
    """Properties of ``folder:...`` or ``npz:...``; the name is not validated."""
    return _npz_facts(name) if name.startswith(NPZ_PREFIX) else _folder_facts(name)


def dataset_facts(name: str) -> DatasetFacts:
    """Look up a data set by its name in a spec.

    Raises:
        SpecError: an unknown name, or one that could lead out of the data root.
    """
    if name in DATASETS:
        return DATASETS[name]
    for prefix in (FOLDER_PREFIX, NPZ_PREFIX):
        if name.startswith(prefix):
            own = name.removeprefix(prefix)
            if _OWN_NAME.fullmatch(own) and ".." not in own:
                return own_facts(name)
            kind = prefix.removesuffix(":")
            raise SpecError(
                f"{name!r} does not name a {'file' if kind == 'npz' else kind} of the data root; "
                f"expected letters, digits, '.', '_' or '-' after '{prefix}' (no '/' and no '..')",
                field=("dataset", "name"),
            )
    known = ", ".join(sorted(DATASETS))
    raise SpecError(
        f"unknown data set {name!r}; expected one of {known}, folder:<name>, npz:<name>",
        field=("dataset", "name"),
    )
