"""What ``pmae data check`` finds in a data set."""

from __future__ import annotations

import pytest

from pmae.data.check import check
from pmae.errors import DataError, DatasetMissingError, SpecError
from pmae.settings import StorageSettings
from tests.support.unprivileged import write_birds


def test_it_counts_images_and_classes(storage: StorageSettings) -> None:
    assert check("digits", storage) == ("digits", "1,259", "179", "359", "10", "1", "8")
    write_birds(storage.data_dir / "birds")
    found = check("folder:birds", storage, 16)
    assert found == ("folder:birds", "14", "2", "4", "2", "1", "16")


@pytest.mark.parametrize("resolution", [None, 32])
def test_what_cannot_be_opened_says_why(storage: StorageSettings, resolution: int | None) -> None:
    with pytest.raises(SpecError, match="unknown data set 'no_such_set'; expected one of"):
        check("no_such_set", storage, resolution)
    with pytest.raises(SpecError, match="'folder:my data' does not name a folder"):
        check("folder:my data", storage, resolution)
    with pytest.raises(DatasetMissingError, match="folder:birds was looked for in"):
        check("folder:birds", storage, resolution)
    (storage.data_dir / "birds" / "wren").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no class folders with images"):
        check("folder:birds", storage, resolution)
