"""Runs that train on all training images: no figure is of validation images."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pmae.data.images import ImageData
from pmae.data.registry import load_data
from pmae.errors import SpecError
from pmae.inference.checkpoint import _choose
from pmae.runs.events import EvaluationEvent, EventWriter, MetricsEvent, read_events
from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec, ExperimentSpec, resolve
from pmae.spec.sizes import check_submission, known_train_images
from pmae.training.process.signals import StopSignal
from pmae.training.run import run
from tests.support.specs import SMALL_MODEL

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
]


@pytest.fixture(autouse=True)
def signal_handler() -> Iterator[None]:
    """Training handles SIGTERM; the tests after it do not."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def _digits(storage: StorageSettings, val: str) -> ImageData:
    spec = DatasetSpec.model_validate({"name": "digits", "resolution": 8, "val": val})
    return load_data(spec, storage)


def _spec(**changes: Any) -> ExperimentSpec:
    fields = {
        "dataset": {"name": "digits", "max_train_images": 200, "val": "none"},
        "model": SMALL_MODEL.model_dump(),
        "epochs": 2,
        "batch_size": 32,
        "evaluations": [],
    }
    return resolve(ExperimentSpec.model_validate(fields | changes))


def test_what_was_held_out_is_trained_on_and_test_stays(storage: StorageSettings) -> None:
    without, held_out = _digits(storage, "none"), _digits(storage, "held_out")
    assert len(without.train) == len(held_out.train) + len(held_out.val)
    assert (len(without.val), without.has_val) == (0, False)
    assert without.test.digest() == held_out.test.digest()
    assert without.digest() != held_out.digest()
    for val, data in (("none", without), ("held_out", held_out)):
        spec = DatasetSpec.model_validate({"name": "digits", "val": val})
        assert known_train_images(spec) == len(data.train)


def test_a_validation_split_of_a_file_is_left_out(storage: StorageSettings) -> None:
    storage.data_dir.mkdir(parents=True)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 30), ("val", 8), ("test", 9)):
        arrays[f"{split}_images"] = np.full((count, 8, 8), count, dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 3)[:, None]
    np.savez(storage.data_dir / "own.npz", **arrays)  # type: ignore[arg-type]
    spec = DatasetSpec.model_validate({"name": "npz:own", "resolution": 8, "val": "none"})
    data = load_data(spec, storage)
    assert [len(split) for split in data.splits.values()] == [30, 0, 9]


def test_a_run_has_no_figure_of_validation(tmp_path: Path, storage: StorageSettings) -> None:
    evaluations = [
        {"protocol": "knn", "layers": "all"},
        {"protocol": "linear", "epochs": 3, "layers": "all"},
        {"protocol": "finetune", "epochs": 1, "batch_size": 64},
    ]
    spec = _spec(evaluations=evaluations)
    run_dir = RunDir(tmp_path / "run")
    lease = run_dir.lease(1)
    lease.path.mkdir(parents=True)
    events = EventWriter(lease.events)
    run(run_dir, lease, spec, storage, events, StopSignal())
    events.close()
    told = list(read_events(lease.events))
    names = {name for e in told if isinstance(e, MetricsEvent) for name in e.values}
    assert not {name for name in names if name.startswith("val_")}
    assert {"train_loss", "train_online_probe_top1", "train_rankme"} <= names
    results = {e.protocol: e for e in told if isinstance(e, EvaluationEvent)}
    assert results.keys() == {"knn", "linear", "finetune"}
    for result in results.values():
        assert "val_top1" not in result.details
        assert result.details["num_val"] == 0
        assert "layer" not in result.details["chosen"]
    assert results["knn"].details["chosen"] == {"k": 10}
    assert "val_loss" not in results["linear"].details["curve"]
    assert len(results["linear"].details["curve"]["test_accuracy"]) == 3


def test_what_would_need_validation_images_is_refused() -> None:
    for changes, field, valid in (
        ({"monitor": {"knn": True}}, "monitor.knn", "expected false"),
        (
            {"checkpoint": {"keep_last": 1, "keep_best": "val_loss"}},
            "checkpoint.keep_best",
            "dataset.val is none",
        ),
        (
            {"evaluations": [{"protocol": "knn", "k": [3, 5]}]},
            "evaluations.0.k",
            "expected one number",
        ),
    ):
        with pytest.raises(SpecError, match=valid) as refused:
            _spec(**changes)
        assert ".".join(map(str, refused.value.field or ())) == field
    kept = _spec(checkpoint={"keep_last": 1, "keep_best": "train_rankme"})
    assert kept.monitor.knn is False
    assert resolve(kept) == kept
    transfer = {"protocol": "knn", "dataset": {"name": "digits"}}
    assert len(_spec(evaluations=[transfer]).evaluations[0].k) > 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("dataset", "keep_best", "right"),
    [
        ("digits", "val_online_probe_accuracy", "val_online_probe_top1"),
        ("clevr", "val_knn_top1", "val_knn_accuracy"),
    ],
)
def test_the_best_checkpoint_needs_an_accuracy_that_is_measured(
    dataset: str, keep_best: str, right: str
) -> None:
    checkpoint = {"keep_last": 1, "keep_best": keep_best}
    fields = {"dataset": {"name": dataset}, "checkpoint": checkpoint}
    with pytest.raises(SpecError, match=f"these images have {right}"):
        check_submission(resolve(ExperimentSpec.model_validate(fields)))


def test_pictures_are_of_test_images(storage: StorageSettings) -> None:
    data = _digits(storage, "none")
    assert _choose(data, None, [0]).labels == data.test.labels[:1]
    with pytest.raises(SpecError, match="expected train or test"):
        _choose(data, "val", [0])
