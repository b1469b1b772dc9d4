"""Fashion-MNIST's idx files, plain and gzipped, broken and missing."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import FashionMNIST

from pmae.data import locate
from pmae.data.locate import DEBIAN_FASHION_MNIST
from pmae.data.readers.fashion_mnist import load_fashion_mnist, read_idx
from pmae.errors import DataError, DatasetMissingError
from pmae.settings import StorageSettings
from tests.pmae.data.conftest import Load
from tests.pmae.data.formats import random_pixels, write_fashion_mnist, write_idx


@pytest.mark.parametrize("zipped", [False, True])
def test_it_reads_what_torchvision_reads(zipped: bool, storage: StorageSettings) -> None:
    root = storage.data_dir
    write_fashion_mnist(root / "FashionMNIST" / "raw", train=120, test=20, zipped=zipped)
    data = load_fashion_mnist(root / "FashionMNIST" / "raw")
    assert (len(data.train), len(data.val), len(data.test)) == (110, 10, 20)
    assert data.image_shape == (1, 28, 28)
    assert data.class_names[9] == "Ankle boot"
    if not zipped:
        peer = FashionMNIST(str(root), train=False)
        assert torch.equal(data.test.in_memory().images[:, 0], peer.data)
        assert torch.equal(data.test.labels, peer.targets)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


def _floats(path: Path) -> None:
    path.write_bytes(b"\0\0\x0d\x03" + path.read_bytes()[4:])


def _gzip_cut(path: Path) -> None:
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()


def _fewer_labels(path: Path) -> None:
    write_idx(path, random_pixels(7), zipped=False)


@pytest.mark.parametrize(
    ("file", "harm", "sentence"),
    [
        ("train-images-idx3-ubyte", _cut, "bytes; its header says"),
        ("train-images-idx3-ubyte", _cut_header, "is truncated in its header"),
        ("train-images-idx3-ubyte", _floats, "is not an idx file of unsigned bytes"),
        ("t10k-labels-idx1-ubyte", _gzip_cut, "cannot be read"),
        ("t10k-labels-idx1-ubyte", _fewer_labels, "the labels (7,)"),
    ],
)
def test_a_broken_file_is_named(
    file: str, harm: object, sentence: str, storage: StorageSettings, load: Load
) -> None:
    folder = storage.data_dir / "FashionMNIST" / "raw"
    write_fashion_mnist(folder, train=40, test=20, zipped=False)
    assert callable(harm)
    harm(folder / file)
    with pytest.raises(DataError, match=re.escape(sentence)) as caught:
        load("fashion_mnist", 28)
    assert str(folder) in str(caught.value)
    assert "pmae data download fashion_mnist" in str(caught.value)


def test_a_missing_file_is_named(
    storage: StorageSettings, load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(locate, "DEBIAN_FASHION_MNIST", tmp_path / "nowhere")
    folder = storage.data_dir / "FashionMNIST" / "raw"
    with pytest.raises(DatasetMissingError, match=r"was looked for in .*raw, .*nowhere. To get it"):
        load("fashion_mnist", 28)
    write_fashion_mnist(folder, train=40, test=20, zipped=True)
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(
        DatasetMissingError, match="is not complete: t10k-images-idx3-ubyte is missing"
    ):
        load("fashion_mnist", 28)


def test_another_resolution_is_scaled_down(storage: StorageSettings, load: Load) -> None:
    folder = storage.data_dir / "FashionMNIST" / "raw"
    write_fashion_mnist(folder, train=40, test=20, zipped=True)
    full, small = load("fashion_mnist", 28), load("fashion_mnist", 14)
    assert small.image_shape == (1, 14, 14)
    means = [data.test.in_memory().images.double().mean(dim=(1, 2, 3)) for data in (full, small)]
    np.testing.assert_allclose(means[0], means[1], atol=4)
    assert small.digest() != full.digest()


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's package is not installed")
def test_the_real_files() -> None:
    data = load_fashion_mnist(DEBIAN_FASHION_MNIST)
    assert (len(data.train), len(data.val), len(data.test)) == (55_000, 5_000, 10_000)
    for split in data.splits.values():
        counts = torch.bincount(split.labels)
        assert counts.tolist() == [len(split) // 10] * 10
    labels = read_idx(DEBIAN_FASHION_MNIST / "t10k-labels-idx1-ubyte.gz")
    assert labels[:5].tolist() == [9, 2, 1, 1, 6]
