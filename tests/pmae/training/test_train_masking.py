"""Each strategy through the real trainer; what is drawn for images comes back after a kill."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pmae.data.registry import load_data
from pmae.data.transforms.standardize import PixelStatistics
from pmae.errors import DatasetMissingError
from pmae.inference.checkpoint import LoadedCheckpoint
from pmae.methods.base import method_for
from pmae.runs.checkpoints import newest_valid
from pmae.runs.events import EndEvent, Event, MetricsEvent, StartEvent, read_events
from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec, ExperimentSpec, MaskingSpec, resolve
from pmae.training.module import PretrainModule
from tests.pmae.data.formats import write_clevr
from tests.support.waiting import wait_until

STEPS = 12


@pytest.fixture
def clevr(storage: StorageSettings) -> Path:
    """Scenes with object masks, in the data root."""
    folder = storage.data_dir / "CLEVR_v1.0"
    write_clevr(folder, train=40, val=4, masks=True)
    return folder


def _spec(tiny: ExperimentSpec, **masking: Any) -> ExperimentSpec:
    """12 steps."""
    asked = MaskingSpec.model_validate(masking)
    changes: dict[str, Any] = {
        "masking": asked,
        "evaluations": (),
        "epochs": 2,
        "checkpoint": tiny.checkpoint.model_copy(update={"every_epochs": 1}),
    }
    if asked.strategy == "segmentation":
        changes |= {
            "method": "mae",
            "basis": None,
            "dataset": DatasetSpec(name="clevr", resolution=32),
            "batch_size": 6,
            "model": tiny.model.model_copy(update={"patch_size": 4}),
        }
    return resolve(tiny.model_copy(update=changes))


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def _start(run: RunDir, storage: StorageSettings, started: list[Any]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "pmae.train", str(run.path)],
        env={**os.environ, "PMAE_HOME": str(storage.home), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    started.append(process)
    return process


def _new_run(folder: Path, spec: ExperimentSpec) -> RunDir:
    folder.mkdir()
    run = RunDir(folder)
    run.spec.write_text(spec.model_dump_json())
    return run


def _outcome(run: RunDir) -> tuple[str, list[tuple[int, dict[str, float]]]]:
    events: list[Event] = list(read_events(run.leases()[-1].events))
    assert isinstance(events[-1], EndEvent)
    folder, _ = newest_valid(run)
    assert folder is not None
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return weights, [(e.step, e.values) for e in events if isinstance(e, MetricsEvent)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "masking",
    [
        {"strategy": "block", "ratio": (0.1, 0.5), "scope": "image"},
        {
            "strategy": "segmentation",
            "predict": "background",
            "mode": "partial",
            "ratio": (0.3, 0.9),
        },
    ],
    ids=["block", "segmentation"],
)
@pytest.mark.usefixtures("clevr")
def test_killed_twice_it_ends_with_the_same_bits(
    masking: dict[str, Any],
    tmp_path: Path,
    tiny_spec: ExperimentSpec,
    storage: StorageSettings,
    processes: list[subprocess.Popen[bytes]],
) -> None:
    # Long enough not to end between the step that is waited for and the kill.
    spec = _spec(tiny_spec, **masking).model_copy(update={"epochs": 10})
    undisturbed = _new_run(tmp_path / "undisturbed", spec)
    assert _start(undisturbed, storage, processes).wait(timeout=200) == 0
    killed = _new_run(tmp_path / "killed", spec)
    for number, step in ((1, 2), (2, 7)):
        process = _start(killed, storage, processes)
        lease = killed.lease(number)

        def reached(latest: Path = lease.latest, step: int = step) -> bool:
            names = [folder.name for folder in latest.iterdir()] if latest.is_dir() else []
            return any(name >= f"step-{step:08d}" for name in names)

        wait_until(
            lambda process=process, reached=reached: reached() or process.poll() is not None,  # type: ignore[misc]
            "the step",
            seconds=200,
        )
        process.kill()
        assert process.wait() != 0, "it was killed, and had not ended"
    assert _start(killed, storage, processes).wait(timeout=200) == 0
    assert _outcome(killed) == _outcome(undisturbed)
    events = list(read_events(killed.leases()[-1].events))
    assert [e.resumed_step > 0 for e in events if isinstance(e, StartEvent)][-1]


def _module(spec: ExperimentSpec, storage: StorageSettings) -> PretrainModule:
    data = load_data(spec.dataset, storage, object_masks=spec.masking.needs_object_masks)
    channels, size, _ = data.image_shape
    statistics = PixelStatistics(torch.full((channels, size, size), 0.5), torch.ones(1))
    return PretrainModule(spec, data, statistics, method_for(spec, None))


@pytest.mark.usefixtures("clevr")
@pytest.mark.parametrize("predict", ["object", "background"])
def test_masks_follow_the_crops_of_the_images(
    predict: str,
    tiny_spec: ExperimentSpec,
    storage: StorageSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In each step every patch is masked, or not, by the grey level that it shows."""
    spec = _spec(tiny_spec, strategy="segmentation", mode="complete", predict=predict)
    strong = {"crop_scale": (0.3, 1.0), "horizontal_flip": True}
    spec = spec.model_copy(
        update={"augmentation": spec.augmentation.model_copy(update=strong), "batch_size": 20}
    )
    module = _module(spec, storage)
    seen: list[torch.Tensor] = []
    standardize = module._standardize

    def spy(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels)
        return standardize(pixels)

    monkeypatch.setattr(module, "_standardize", spy)
    compared = 0
    for step in range(2):
        module.training_step(step)
        assert module.last_draw is not None
        assert module.last_draw.ratio is None
        # The background is 40, one object 120 and the other 200.
        grey = (255 * seen[-1][:, 0]).unfold(1, 4, 4).unfold(2, 4, 4).flatten(3).flatten(1, 2)
        for levels, masked in zip(grey, module.last_draw.masked, strict=True):
            first = ((levels > 95) & (levels < 135)).float().mean(dim=1)
            second = (levels > 170).float().mean(dim=1)
            if max(first.max(), second.max()) < 0.5:
                continue  # no object is well in sight
            compared += 1
            shares = torch.stack([first, second])
            object_patches = shares > 0.3
            plain = (levels - 40).abs().max(dim=1).values < 8
            if predict == "background":
                assert bool(masked[plain].all()), "what shows no object is masked"
                assert not bool((masked & object_patches.any(dim=0)).any())
                continue
            # All of one object's patches are masked, and none of the other's alone.
            assert bool((masked | ~object_patches).all(dim=1).any())
            assert not bool((masked & plain).any()) or int(masked.sum()) == 1
    assert compared > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "masking",
    [
        {"strategy": "top", "ratio": 0.4},
        {"strategy": "bottom", "ratio": (0.05, 0.3), "scope": "image"},
        {"ratio_of": "components", "strategy": "random", "ratio": (0.1, 0.9)},
        {"strategy": "segmentation", "predict": "object", "mode": "random"},
        {"strategy": "segmentation", "predict": "background", "mode": "random"},
    ],
    ids=lambda masking: "-".join(map(str, masking.values())),
)
@pytest.mark.usefixtures("clevr")
def test_each_strategy_trains_and_its_checkpoint_reconstructs(
    masking: dict[str, Any],
    tmp_path: Path,
    tiny_spec: ExperimentSpec,
    storage: StorageSettings,
    processes: list[subprocess.Popen[bytes]],
) -> None:
    run = _new_run(tmp_path / "run", _spec(tiny_spec, **masking))
    assert _start(run, storage, processes).wait(timeout=200) == 0
    _, metrics = _outcome(run)
    losses = [values["loss"] for _, values in metrics if "loss" in values]
    assert len(losses) == STEPS
    assert all(np.isfinite(losses))
    assert losses[-1] != losses[0]
    assert any("val_loss" in values for _, values in metrics)

    folder, _ = newest_valid(run)
    assert folder is not None
    loaded = LoadedCheckpoint.load(folder, storage)
    result = loaded.reconstruct(split="val", indices=[0, 1], masking=None, seed=5)
    assert 0 < result.num_masked < result.num_total
    index, residual, target = result.mean_squares.per_part()
    assert set(index.tolist()) == set(result.mean_squares.masked.any(0).nonzero()[:, 0].tolist())
    assert bool((residual > 0).all())
    assert bool((target >= 0).all())
    own = {"patches": [0, (4, 6)]} if loaded.spec.method == "mae" else {"components": [0, (4, 6)]}
    given = loaded.reconstruct(split="val", indices=[0, 1], masking=None, seed=0, **own)  # type: ignore[arg-type]
    assert (given.num_masked, given.ratio) == (4, None)
    assert given.mean_squares.per_part()[0].tolist() == [0, 4, 5, 6]


def test_object_masks_that_are_missing_are_told_before_training(
    tiny_spec: ExperimentSpec, storage: StorageSettings
) -> None:
    folder = storage.data_dir / "CLEVR_v1.0"
    write_clevr(folder, train=40, val=4)
    with pytest.raises(DatasetMissingError, match=r"masks/train is missing: masking by objects"):
        _module(_spec(tiny_spec, strategy="segmentation"), storage)
