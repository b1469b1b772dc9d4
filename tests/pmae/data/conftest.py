"""Fixtures of the data sets' tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pmae.data.images import ImageData
from pmae.data.registry import load_data
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec

Load = Callable[..., ImageData]


@pytest.fixture
def load(storage: StorageSettings) -> Load:
    """Load a data set from the test's data root, by name, at a resolution."""

    def load_by_name(name: str, resolution: int, **fields: int) -> ImageData:
        spec = DatasetSpec.model_validate({"name": name, "resolution": resolution, **fields})
        return load_data(spec, storage)

    return load_by_name
