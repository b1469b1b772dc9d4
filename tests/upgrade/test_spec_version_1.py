"""What a spec of version 1 made: its checkpoint draws the masks that its own commit drew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

import pmae
from pmae.inference.checkpoint import LoadedCheckpoint
from pmae.inference.model import LoadedModel
from pmae.inference.reconstruct import panels, reconstruct
from pmae.runs.events import MetricsEvent, StartEvent, read_events
from pmae.runs.frames import read_reference
from pmae.runs.layout import RunDir
from pmae.seeding import generator
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, MaskingSpec
from tests.support.waiting import wait_until
from tests.upgrade.make_fixture import ARTIFACTS_FILE, FACTS_FILE, FIXTURES, SPEC

FIXTURE = FIXTURES / "0896e84"
RUN_ID = json.loads((FIXTURE / FACTS_FILE).read_text())["run_id"]
STEP = 600


@pytest.fixture
def storage(tmp_path: Path) -> StorageSettings:
    """The artifacts that the commit left."""
    with tarfile.open(FIXTURE / ARTIFACTS_FILE) as archive:
        archive.extractall(tmp_path, filter="data")
    return StorageSettings(home=tmp_path)


@pytest.fixture
def old(storage: StorageSettings) -> LoadedModel:
    return pmae.load(f"{RUN_ID}/step-{STEP:08d}", storage)


def _recorded(run: RunDir, lease: int) -> dict[int, float]:
    """The share of variance that was masked in each step."""
    return {
        event.step: event.values["masked_share"]
        for event in read_events(run.lease(lease).events)
        if isinstance(event, MetricsEvent) and "masked_share" in event.values
    }


def test_its_masks_are_those_that_were_drawn_then(
    old: LoadedModel, storage: StorageSettings
) -> None:
    assert (old.spec.version, old.spec.masking.count) == (2, "nearest")
    recorded = _recorded(RunDir(storage.runs_dir / RUN_ID), 1)
    assert len(recorded) > STEP
    for step, share in recorded.items():
        noise = generator(old.spec.seed, "mask", step - 1)
        draw = old.method.draw(32, old.spec.masking, noise)
        assert draw.masked_share == pytest.approx(share, rel=1e-9), step


def test_it_reconstructs_under_the_masks_of_its_time(old: LoadedModel) -> None:
    """The rule by NumPy: as many as come nearest to the ratio, of the generator's permutation."""
    assert old.basis is not None
    spectrum = old.basis.explained_variance_ratio.numpy()
    images = torch.zeros(3, *old.image_shape, dtype=torch.uint8)
    for masking in (None, MaskingSpec(), MaskingSpec(ratio=0.4)):
        noise = generator(5, "reconstruct")
        torch.rand(1, generator=noise, dtype=torch.float64)  # the ratio, of which none is drawn
        order = torch.rand(1, 64, generator=noise, dtype=torch.float64).argsort(dim=1)[0].numpy()
        ratio = 0.4 if masking and masking.ratio else 0.2
        misses = np.abs(np.cumsum(spectrum[order])[:-1] - ratio)
        expected = sorted(order[: misses.argmin() + 1].tolist())
        squares = old.picture(images, masking=masking, seed=5).mean_squares
        assert squares.per_part()[0].tolist() == expected


def test_its_filmstrip_is_of_the_images_that_are_seen_today(
    old: LoadedModel, storage: StorageSettings
) -> None:
    """Pictures that the commit itself drew."""
    reference = read_reference(RunDir(storage.runs_dir / RUN_ID))
    assert reference is not None
    data = LoadedCheckpoint(old).data
    images = old.preprocess(data.val.take(torch.arange(8)).images)
    noise = generator(old.spec.seed, "filmstrip")
    masked = old.method.draw(8, old.spec.masking, noise).masked
    parts, _ = reconstruct(old.model, old.method, images, masked)
    for name in ("visible", "target"):
        drawn = panels(parts, old.statistics)[name].astype(int)
        assert np.abs(drawn - reference[name].astype(int)).max() <= 1


@pytest.mark.slow
def test_resumed_by_hand_it_keeps_its_rule_and_writes_it_out(
    storage: StorageSettings, tmp_path: Path
) -> None:
    """Also by the file that it was begun with, which names neither version nor rule."""
    run = RunDir(storage.runs_dir / RUN_ID)
    assert json.loads(run.spec.read_bytes())["version"] == 1
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(SPEC))
    process = subprocess.Popen(
        [sys.executable, "-m", "pmae.train", str(run.path), "--spec", str(file)],
        env={**os.environ, "PMAE_HOME": str(storage.home)},
        stderr=subprocess.DEVNULL,
    )
    recorded, events = _recorded(run, 1), run.lease(2).events
    last = max(recorded)
    try:
        wait_until(lambda: events.exists() and max(_recorded(run, 2), default=0) >= last, "steps")
        process.terminate()
        process.wait(timeout=60)
    finally:
        process.kill()
    resumed = [event for event in read_events(events) if isinstance(event, StartEvent)][-1]
    assert resumed.lease == 2
    assert resumed.resumed_step is not None
    computed_again = range(resumed.resumed_step + 1, last + 1)
    assert len(computed_again) > 20
    for step in computed_again:
        assert _recorded(run, 2)[step] == pytest.approx(recorded[step], rel=1e-9)
    spec = json.loads(run.spec.read_bytes())
    assert (spec["version"], spec["masking"]["count"]) == (2, "nearest")
    ExperimentSpec.model_validate(spec)
