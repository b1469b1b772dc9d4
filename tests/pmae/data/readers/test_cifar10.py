"""CIFAR-10's pickled batches, with torchvision as the peer."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from pmae.data.readers.cifar10 import CLASS_NAMES, TEST_MD5, TRAIN_MD5, load_cifar10
from pmae.errors import DataError, DatasetMissingError
from pmae.settings import StorageSettings
from tests.pmae.data.conftest import Load
from tests.pmae.data.formats import write_cifar10


@pytest.fixture
def folder(storage: StorageSettings) -> Path:
    return storage.data_dir / "cifar-10-batches-py"


def test_it_reads_what_torchvision_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_md5, test_md5 = write_cifar10(folder, images_per_batch=20)
    data = load_cifar10(folder, train_md5, test_md5)
    assert (len(data.train), len(data.val), len(data.test)) == (90, 10, 20)
    assert torch.bincount(data.val.labels).tolist() == [1] * 10
    meta = pickle.dumps({"label_names": list(CLASS_NAMES)})
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(CIFAR10, "train_list", [list(item) for item in train_md5.items()])
    monkeypatch.setattr(CIFAR10, "test_list", [list(item) for item in test_md5.items()])
    meta_facts = {"filename": "batches.meta", "key": "label_names", "md5": _md5(meta)}
    monkeypatch.setattr(CIFAR10, "meta", meta_facts)
    peer = CIFAR10(str(folder.parent), train=False)
    assert np.array_equal(data.test.in_memory().images.permute(0, 2, 3, 1), peer.data)
    assert data.test.labels.tolist() == peer.targets
    peer = CIFAR10(str(folder.parent), train=True)
    ours = torch.cat([data.train.in_memory().images, data.val.in_memory().images])
    theirs = torch.from_numpy(peer.data).permute(0, 3, 1, 2)
    assert sorted(map(_bytes, ours)) == sorted(map(_bytes, theirs))


def test_the_official_files_are_named_with_their_sums() -> None:
    assert list(TRAIN_MD5) == [f"data_batch_{number}" for number in range(1, 6)]
    assert list(TEST_MD5) == ["test_batch"]
    assert all(len(md5) == 32 for md5 in (*TRAIN_MD5.values(), *TEST_MD5.values()))


def test_a_changed_file_is_not_unpickled(folder: Path, load: Load, tmp_path: Path) -> None:
    write_cifar10(folder, images_per_batch=20)
    trace = tmp_path / "trace"
    (folder / "data_batch_1").write_bytes(pickle.dumps(_Touch(trace)))
    with pytest.raises(DataError, match="data_batch_1 is not CIFAR-10's file: its MD5 is") as error:
        load("cifar10", 32)
    assert "`pmae data download cifar10`" in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"labels": [0, 1]},
        {"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]},
        {"data": np.zeros((2, 3072)), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": ["cat", "dog"]},
        ["no", "dictionary"],
    ],
)
def test_another_content_is_refused(folder: Path, content: Any) -> None:
    train_md5, _ = write_cifar10(folder, images_per_batch=20)
    data = pickle.dumps(content)
    (folder / "test_batch").write_bytes(data)
    with pytest.raises(DataError, match="test_batch does not hold data"):
        load_cifar10(folder, train_md5, {"test_batch": _md5(data)})


def test_missing_files_are_named(folder: Path, load: Load) -> None:
    with pytest.raises(
        DatasetMissingError, match=r"cifar10 was looked for in .*cifar-10-batches-py. To get it:"
    ):
        load("cifar10", 32)
    write_cifar10(folder, images_per_batch=10)
    (folder / "data_batch_4").unlink()
    with pytest.raises(DatasetMissingError, match="is not complete: data_batch_4 is missing"):
        load("cifar10", 32)


class _Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._path,))


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _bytes(image: torch.Tensor) -> bytes:
    return image.contiguous().numpy().tobytes()
