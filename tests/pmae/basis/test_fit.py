"""Bases of every kind through the trainer: fitted, trained on, resumed and reconstructed from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pmae.basis.basis import Basis
from pmae.basis.fit import FitImages, fit_basis
from pmae.basis.pca import fit_pca
from pmae.basis.reach import check_reach
from pmae.basis.store import BasisStore, read_spectrum
from pmae.data.images import Split
from pmae.data.readers.digits import load_digits
from pmae.data.transforms.standardize import PixelStatistics, pixel_statistics
from pmae.errors import SpecError
from pmae.inference.checkpoint import LoadedCheckpoint
from pmae.runs.checkpoints import newest_valid
from pmae.runs.events import (
    BasisEvent,
    EndEvent,
    EventWriter,
    ProgressEvent,
    StageEvent,
    read_events,
)
from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.spec import BasisSpec, ExperimentSpec, MaskingSpec, resolve
from pmae.training.process.signals import StopSignal
from pmae.training.run import run

# Lightning 2.6 asks torch in a way that torch 2.14 deprecates.
pytestmark = pytest.mark.filterwarnings(r"ignore:.*treespec, LeafSpec:FutureWarning")

BASES: list[dict[str, Any]] = [
    {},
    {"num_components": 20},
    {"solver": "randomized", "num_components": 20, "fit_images": 150},
    {"kind": "pca_augmented", "passes": 2},
    {"kind": "pca_augmented", "solver": "randomized", "num_components": 20},
    {"kind": "dct"},
    {"kind": "dct", "num_components": 20},
    {"kind": "random"},
    {"kind": "random", "num_components": 20, "seed": 4},
    {"kind": "kernel"},
    {"kind": "kernel", "bandwidth": 0.8, "num_components": 20, "fit_images": 100},
]


def _with_basis(spec: ExperimentSpec, basis: dict[str, Any], **fields: Any) -> ExperimentSpec:
    changes: dict[str, Any] = {"basis": BasisSpec.model_validate(basis), "epochs": 1} | fields
    return resolve(spec.model_copy(update=changes))


def _run(folder: Path, spec: ExperimentSpec, storage: StorageSettings) -> list[Any]:
    """Train in this process; returns the lease's events."""
    folder.mkdir(exist_ok=True)
    run_dir = RunDir(folder)
    lease = run_dir.lease(len(run_dir.leases()) + 1)
    lease.path.mkdir()
    events = EventWriter(lease.events)
    try:
        run(run_dir, lease, spec, storage, events, StopSignal())
    finally:
        events.close()
    return list(read_events(lease.events))


def _digest(events: list[Any]) -> str:
    (digest,) = {event.digest for event in events if isinstance(event, BasisEvent)}
    return str(digest)


def _weights(folder: Path) -> bytes:
    checkpoint, _ = newest_valid(RunDir(folder))
    assert checkpoint is not None
    return (checkpoint / "model.safetensors").read_bytes()


@pytest.mark.parametrize("basis", BASES, ids=str)
def test_a_run_fits_it_once_trains_and_reconstructs(
    basis: dict[str, Any],
    tmp_path: Path,
    tiny_spec: ExperimentSpec,
    storage: StorageSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = _with_basis(tiny_spec, basis, masking=MaskingSpec(ratio=0.1))
    events = _run(tmp_path / "run", spec, storage)
    assert isinstance(events[-1], EndEvent)
    digest = _digest(events)
    facts = read_spectrum(storage.bases_dir, digest)
    assert facts.kind == basis.get("kind", "pca")
    assert facts.num_components == basis.get("num_components", 64)
    total = float(facts.explained_variance_ratio.sum())
    assert (total == pytest.approx(1, abs=1e-5)) == (facts.num_components == 64)

    checkpoint, _ = newest_valid(RunDir(tmp_path / "run"))
    assert checkpoint is not None
    loaded = LoadedCheckpoint.load(checkpoint, storage)
    result = loaded.reconstruct(split="val", indices=[0, 1], masking=None, seed=3)
    assert result.num_total == facts.num_components
    assert all(error > 0 for error in result.masked_error)

    monkeypatch.setattr("pmae.training.run.fit_basis", _must_not_run)
    again = _run(tmp_path / "again", spec, storage)
    assert _digest(again) == digest
    assert _weights(tmp_path / "again") == _weights(tmp_path / "run")
    resumed = _run(tmp_path / "run", spec, storage)
    assert _digest(resumed) == digest


def _must_not_run(*_: object) -> Basis:
    raise AssertionError("the basis is in the store")


def test_a_fit_repeated_in_another_store_gives_the_same_basis(
    tmp_path: Path, tiny_spec: ExperimentSpec, subtests: pytest.Subtests
) -> None:
    """A run killed before its first checkpoint, and whose store was lost, ends the same."""
    data = load_digits()
    for basis in BASES:
        with subtests.test(basis=basis):
            spec = _with_basis(tiny_spec, basis)
            fits = [_fit(spec, data.train) for _ in range(2)]
            stored = [
                BasisStore(tmp_path).save(fit, kind="x", channels=1, resolution=8) for fit in fits
            ]
            assert stored[0] == stored[1]


def _statistics(train: Split) -> PixelStatistics:
    return pixel_statistics([train.in_memory().images]).with_floor(0.1)


def _fit(spec: ExperimentSpec, train: Split) -> Basis:
    return fit_basis(spec, train, _statistics(train), lambda _done, _total: None)


def test_a_ratio_that_the_basis_cannot_reach_is_refused_at_the_start(
    tmp_path: Path, tiny_spec: ExperimentSpec, storage: StorageSettings
) -> None:
    spec = _with_basis(tiny_spec, {"num_components": 3}, masking=MaskingSpec(ratio=(0.1, 0.8)))
    with pytest.raises(SpecError, match=r"masking\.ratio: 0\.8 .*at most 0\.\d+") as caught:
        _run(tmp_path / "run", spec, storage)
    assert caught.value.field == ("masking", "ratio")
    events = list(read_events(RunDir(tmp_path / "run").lease(1).events))
    assert [e.stage for e in events if isinstance(e, StageEvent)] == ["data", "basis"]


def test_a_reconstruction_cannot_ask_for_more_either(
    tmp_path: Path, tiny_spec: ExperimentSpec, storage: StorageSettings
) -> None:
    spec = _with_basis(tiny_spec, {"num_components": 5})
    _run(tmp_path / "run", spec, storage)
    checkpoint, _ = newest_valid(RunDir(tmp_path / "run"))
    assert checkpoint is not None
    loaded = LoadedCheckpoint.load(checkpoint, storage)
    with pytest.raises(SpecError, match="expected at most") as caught:
        loaded.reconstruct(split="val", indices=[0], masking=MaskingSpec(ratio=0.9), seed=0)
    assert caught.value.field == ("masking", "ratio")


def test_a_complete_basis_reaches_every_ratio() -> None:
    ratios = torch.full((64,), 1 / 64, dtype=torch.float64) * (1 - 1e-6)
    check_reach(MaskingSpec(ratio=0.9999999), Basis(torch.eye(64), ratios))


def test_images_that_are_too_few_for_the_components_are_named(tiny_spec: ExperimentSpec) -> None:
    train = load_digits().train.select(torch.arange(30))
    spec = _with_basis(tiny_spec, {"solver": "randomized", "num_components": 40})
    with pytest.raises(SpecError, match="30 images span at most 29 components, not 40") as caught:
        _fit(spec, train)
    assert caught.value.field == ("basis", "num_components")
    few = _fit(_with_basis(tiny_spec, {}), train)
    assert float(few.explained_variance_ratio[29:].sum()) < 1e-6


def test_the_images_are_a_seeded_choice_of_the_train_split(tiny_spec: ExperimentSpec) -> None:
    train = load_digits().train

    def images(**basis: Any) -> FitImages:
        spec = _with_basis(tiny_spec, basis)
        assert spec.basis is not None
        return FitImages(train, _statistics(train), spec.basis, None)

    some = images(fit_images=50)
    assert len(some.indices.unique()) == some.total == 50
    assert torch.equal(some.indices, images(fit_images=50, kind="dct").indices)
    assert not torch.equal(some.indices, images(fit_images=50, seed=1).indices)
    assert images(fit_images=10**6).total == images().total == len(train)


def test_augmented_images_are_drawn_anew_at_each_pass_and_seed(tiny_spec: ExperimentSpec) -> None:
    train = load_digits().train.select(torch.arange(200))

    def fit(augmentation: dict[str, Any], **basis: Any) -> Basis:
        spec = _with_basis(tiny_spec, {"kind": "pca_augmented"} | basis)
        changed = spec.augmentation.model_copy(update=augmentation)
        return _fit(spec.model_copy(update={"augmentation": changed}), train)

    none = fit({"crop_scale": (1.0, 1.0), "horizontal_flip": False})
    plain = fit_pca([_statistics(train).standardize(train.in_memory().images / 255)])
    assert torch.equal(none.components, plain.components)
    crops = fit({})
    for other in (plain, fit({}, passes=2), fit({}, seed=1), fit({"crop_scale": (0.2, 1.0)})):
        assert not torch.equal(crops.components, other.components)


def test_progress_is_told_over_all_passes(tiny_spec: ExperimentSpec) -> None:
    train = load_digits().train.select(torch.arange(100))
    for basis, total in (
        ({}, 100),
        ({"kind": "pca_augmented", "passes": 3}, 300),
        ({"solver": "randomized", "num_components": 8}, 400),
    ):
        told: list[tuple[int, int]] = []
        spec = _with_basis(tiny_spec, basis)
        fit_basis(spec, train, _statistics(train), lambda *args, told=told: told.append(args))
        assert told[-1] == (total, total)
        assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_the_trainer_tells_its_progress(
    tmp_path: Path,
    tiny_spec: ExperimentSpec,
    storage: StorageSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pmae.training.run._PROGRESS_SECONDS", 0.0)
    events = _run(tmp_path / "run", _with_basis(tiny_spec, {}), storage)
    told = [e for e in events if isinstance(e, ProgressEvent) and e.stage == "basis"]
    assert [(event.done, event.total) for event in told] == [(200, 200)]
