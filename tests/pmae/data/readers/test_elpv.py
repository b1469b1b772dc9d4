"""ELPV, from a small package of its format, and from the real one where it is installed."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pmae.data.check import check
from pmae.data.images import ImageData
from pmae.data.locate import list_datasets, locate
from pmae.data.readers.elpv import CLASS_NAMES
from pmae.data.registry import load_data, open_data
from pmae.errors import DataError, DatasetMissingError, SpecError
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec
from pmae.spec.catalog import DATASETS
from tests.pmae.data.formats import write_elpv

SPEC = DatasetSpec(name="elpv", resolution=64)
REAL = importlib.util.find_spec("elpv_dataset") is not None


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package; the real one is not seen."""
    folder = tmp_path / "site"
    write_elpv(folder, per_group=16)
    monkeypatch.syspath_prepend(str(folder))
    return folder / "elpv_dataset" / "data"


def test_what_is_more_likely_defective_than_not_is_defective(
    package: Path, storage: StorageSettings
) -> None:
    data = open_data(SPEC, storage)
    assert data.class_names == CLASS_NAMES == ("functional", "defective")
    assert data.image_shape == (1, 64, 64)
    sizes = [len(split) for split in data.splits.values()]
    assert sizes == [80, 16, 32], "whole groups, each cut alike"
    for split in data.splits.values():
        batch = split.take(torch.arange(len(split)))
        probability = (batch.images.flatten(1).double().mean(dim=1) / 85).round() / 3
        assert torch.equal(batch.labels, (probability > 0.5).long())
        counts = torch.bincount((probability * 3).long())
        assert counts.tolist() == [len(split) // 4] * 4


def test_it_is_found_where_the_package_is(
    package: Path, storage: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locate("elpv", storage).path == package
    assert "elpv_dataset" not in sys.modules, "nothing of the package is imported"
    assert check("elpv", storage)[:6] == ("elpv", "80", "16", "32", "2", "1")
    (package / "labels.csv").rename(package / "lost.csv")
    assert "labels.csv is missing" in locate("elpv", storage).message


def test_without_the_package_it_says_how_to_get_it(
    storage: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    location = locate("elpv", storage)
    assert not location.available
    assert "pip install 'pmae[elpv]'" in location.message
    assert "not for commercial use" in location.message
    with pytest.raises(DatasetMissingError, match=r"pmae\[elpv\]"):
        open_data(SPEC, storage)
    write_elpv(storage.data_dir / "elpv", per_group=8)
    assert len(open_data(SPEC, storage).test) == 16
    names = {listed.facts.name for listed in list_datasets(storage)}
    assert names == set(DATASETS), "its folder is no data set of a second name"


@pytest.mark.parametrize(
    "line", ["images/cell0001.png 0.5 mono", "images/cell0001.png 1.0 thin", "images/cell0001.png"]
)
def test_a_broken_line_is_named(package: Path, storage: StorageSettings, line: str) -> None:
    with (package / "labels.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 129: expected a file"):
        open_data(SPEC, storage)


def test_downloading_it_says_where_it_comes_from(storage: StorageSettings) -> None:
    from pmae.data.download import source

    with pytest.raises(SpecError, match=r"elpv cannot be downloaded: .*pmae\[elpv\]"):
        source("elpv")


@pytest.fixture
def real(storage: StorageSettings) -> ImageData:
    if not REAL and not os.environ.get("PMAE_REQUIRE_ALL"):
        pytest.skip("elpv-dataset is not installed: pip install 'pmae[elpv]'")
    return open_data(SPEC, storage)


def test_the_real_one_is_split_as_documented(real: ImageData) -> None:
    from elpv_dataset.utils import load_dataset

    counts = {name: torch.bincount(split.labels).tolist() for name, split in real.splits.items()}
    assert counts == {"train": [1184, 540], "val": [169, 77], "test": [450, 204]}
    assert sum(map(len, real.splits.values())) == 2_624
    assert DATASETS["elpv"].train_images == len(real.train)
    images, probabilities, _ = load_dataset()
    defective = int((probabilities > 0.5).sum())
    assert sum(defects for _, defects in counts.values()) == defective
    names = real.train.files.names  # type: ignore[attr-defined]
    row = int(names[5].decode()[len("images/cell") :].removesuffix(".png")) - 1
    assert int(real.train.labels[5]) == int(probabilities[row] > 0.5)
    expected = Image.fromarray(images[row]).resize((64, 64), Image.Resampling.BICUBIC)
    shown = real.train.take(torch.tensor([5])).images[0, 0].numpy()
    assert np.abs(shown.astype(int) - np.asarray(expected).astype(int)).max() <= 2


def test_the_real_one_fits_into_memory_and_repeats(
    real: ImageData, storage: StorageSettings
) -> None:
    few = DatasetSpec(name="elpv", resolution=64, max_train_images=40)
    data = load_data(few, storage)
    again = open_data(few, storage)
    assert torch.equal(data.train.labels, again.train.labels)
    assert data.digest() == again.digest()
    data.close()
