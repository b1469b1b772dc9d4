"""The store of fitted bases, and the key that says what one was fitted on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.basis.fit import fit_key
from pmae.basis.pca import fit_pca
from pmae.basis.store import BasisStore, FitKey, read_component, read_spectrum
from pmae.data.registry import open_data
from pmae.errors import BasisError
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec, ExperimentSpec, resolve

KEY = FitKey(kind="pca", data_digest="d", resolution=8, std_floor=0.1)


def test_a_stored_basis_is_fitted_once_and_read_back(tmp_path: Path, digits: Tensor) -> None:
    store, fits = BasisStore(tmp_path), []
    basis = fit_pca([digits])

    def fit() -> Basis:
        fits.append(1)
        return basis

    digest, first = store.get_or_fit(KEY, 1, fit)
    again, second = store.get_or_fit(KEY, 1, fit)
    assert (digest, len(fits)) == (again, 1)
    assert torch.equal(first.components, second.components)
    spectrum = read_spectrum(tmp_path, digest)
    assert (spectrum.kind, spectrum.num_components) == ("pca", 64)
    component = read_component(tmp_path, digest, 3)
    assert component.shape == (1, 8, 8)
    np.testing.assert_array_equal(component.reshape(-1), basis.components[3])
    with pytest.raises(BasisError, match="0 to 63"):
        read_component(tmp_path, digest, 64)
    with pytest.raises(BasisError, match="cannot be read"):
        store.load("0" * 64)


def test_the_key_of_an_exact_pca_is_what_it_always_was(tmp_path: Path, digits: Tensor) -> None:
    """A basis that an older version fitted is found again."""
    written = {"data_digest": "d", "kind": "pca", "resolution": 8, "std_floor": 0.1}
    assert KEY.facts == written
    assert KEY.digest == "63b33ed954635e49b304e8ef0dcdb485a968a091eb1dd2d7438011a379204f72"
    BasisStore(tmp_path).get_or_fit(KEY, 1, lambda: fit_pca([digits]))
    pointer = json.loads((tmp_path / "fits" / f"{KEY.digest}.json").read_bytes())
    assert pointer["key"] == written


def _key(basis: dict[str, Any], fields: dict[str, Any] | None = None, digest: str = "d") -> str:
    written = {"dataset": {"name": "digits", "std_floor": 0.1}, "basis": basis} | (fields or {})
    spec = ExperimentSpec.model_validate(written)
    return fit_key(resolve(spec), digest).digest


def test_the_key_tells_apart_what_decides_a_basis() -> None:
    crops = {"augmentation": {"crop_scale": [0.5, 1]}}
    augmented, sketch = {"kind": "pca_augmented"}, {"solver": "randomized", "num_components": 8}
    keys = [
        _key({}),
        _key({}, digest="other images"),
        _key({}, {"dataset": {"name": "digits", "std_floor": 0.1, "resolution": 16}}),
        _key({}, {"dataset": {"name": "digits", "std_floor": 0.3}}),
        _key({"num_components": 8}),
        _key({"fit_images": 50}),
        _key({"fit_images": 50, "seed": 1}),
        _key(sketch),
        _key(sketch | {"seed": 1}),
        _key(sketch | {"fit_images": 50}),
        _key(augmented),
        _key(augmented, crops),
        _key(augmented | {"passes": 2}),
        _key(augmented | {"seed": 1}),
        _key({"kind": "dct"}),
        _key({"kind": "random"}),
        _key({"kind": "random", "seed": 1}),
        _key({"kind": "kernel"}),
        _key({"kind": "kernel", "bandwidth": 1.5}),
    ]
    assert len(set(keys)) == len(keys)


def test_what_does_not_decide_a_basis_does_not_change_its_key() -> None:
    other = {"augmentation": {"crop_scale": [0.5, 1]}, "seed": 7, "epochs": 3, "threads": 2}
    assert _key({}) == _key({}, other) == _key({"solver": "exact"})


def test_the_images_chosen_are_part_of_the_data_digest(storage: StorageSettings) -> None:
    def digest(most: int | None) -> str:
        spec = DatasetSpec(name="digits", resolution=8, max_train_images=most)
        return open_data(spec, storage).digest()

    assert len({digest(None), digest(100), digest(101)}) == 3
