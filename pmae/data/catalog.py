"""The data sets' names and facts. Imports no torch: the API validates specs with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pmae.errors import SpecError

FOLDER_PREFIX = "folder:"
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What is known of a data set before it is read.

    Attributes:
        name: as written in a spec.
        title: as written for people.
        resolution: default edge length in pixels of the square images.
        patch_size: default edge length in pixels of a patch; divides ``resolution``.
        channels: 1 (grey) or 3 (RGB); None if that depends on the files.
        num_classes: None if that depends on the files.
        horizontal_flip: whether mirrored images keep their class.
        source: where it comes from and how to get it.
    """

    name: str
    title: str
    resolution: int
    patch_size: int
    channels: int | None
    num_classes: int | None
    horizontal_flip: bool
    source: str


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
        ),
    )
}


def folder_facts(name: str) -> DatasetFacts:
    """Facts of ``folder:<name>``: class-per-folder images under the data root."""
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


def dataset_facts(name: str) -> DatasetFacts:
    """Look a data set up by the name that a spec uses.

    Raises:
        SpecError: no such data set, or a folder name that could leave the data root.
    """
    if name in DATASETS:
        return DATASETS[name]
    if name.startswith(FOLDER_PREFIX):
        folder = name.removeprefix(FOLDER_PREFIX)
        if _FOLDER_NAME.fullmatch(folder) and ".." not in folder:
            return folder_facts(name)
        raise SpecError(
            f"{name!r} does not name a folder of the data root: after 'folder:' come letters, "
            "digits, '.', '_' or '-' (no '/' and no '..')",
            field=("dataset", "name"),
        )
    known = ", ".join(sorted(DATASETS))
    raise SpecError(
        f"unknown data set {name!r}; valid are {known} and folder:<name>",
        field=("dataset", "name"),
    )
