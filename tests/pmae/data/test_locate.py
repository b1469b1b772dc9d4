"""What lies under a data root, and what is said of what cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pmae.data.locate import Location, data_root_problem, list_datasets, locate, require
from pmae.errors import DatasetMissingError, DatasetUnreadableError
from pmae.settings import StorageSettings
from pmae.spec.catalog import DATASETS
from tests.support.unprivileged import write_birds


def _own(storage: StorageSettings) -> dict[str, Location]:
    listed = {each.facts.name: each.location for each in list_datasets(storage)}
    assert list(listed)[: len(DATASETS)] == list(DATASETS)
    return {name: location for name, location in listed.items() if name not in DATASETS}


def test_names_that_no_spec_can_hold_are_listed_with_the_reason(storage: StorageSettings) -> None:
    write_birds(storage.data_dir / "my data", count=1)
    write_birds(storage.data_dir / os.fsdecode(b"caf\xe9\n"), count=1)
    own = _own(storage)
    assert set(own) == {"folder:my data", r"folder:caf\xe9\n"}
    for location in own.values():
        assert not location.available
        assert location.message.encode("utf-8"), "an answer can hold it"
        assert "letters, digits, '.', '_' and '-'" in location.message
        assert "rename it" in location.message


def test_what_is_no_data_set_is_not_listed(storage: StorageSettings) -> None:
    root = storage.data_dir
    for name in ("lost+found", ".cache"):
        write_birds(root / name, count=1)
    (root / "empty").mkdir()
    (root / "notes.txt").touch()
    assert _own(storage) == {}


def test_a_link_that_leads_nowhere_says_where_to(storage: StorageSettings) -> None:
    storage.data_dir.mkdir(parents=True)
    (storage.data_dir / "moved").symlink_to("/mnt/nowhere")
    (storage.data_dir / "cifar-10-batches-py").symlink_to("/mnt/nowhere")
    location = _own(storage)["folder:moved"]
    assert not location.available
    assert "is a link to /mnt/nowhere, which is not there" in location.message
    for name in ("folder:moved", "cifar10"):
        with pytest.raises(DatasetUnreadableError, match=r"is a link to /mnt/nowhere"):
            require(name, storage)


def test_a_data_root_that_is_missing_is_told(storage: StorageSettings, tmp_path: Path) -> None:
    message = f"the data root {storage.data_dir} is not there (PMAE_DATA_ROOT names it)"
    assert data_root_problem(storage) == message
    assert _own(storage) == {}
    assert locate("cifar10", storage).message.endswith(f"But {message}")
    assert locate("digits", storage).available, "it needs none"
    with pytest.raises(DatasetMissingError, match="the data root"):
        require("folder:birds", storage)
    storage.data_dir.mkdir(parents=True)
    assert data_root_problem(storage) is None
    assert "data root " not in locate("folder:birds", storage).message
    file = tmp_path / "file"
    file.touch()
    assert "is no folder" in (data_root_problem(StorageSettings(data_root=file)) or "")
