"""The filmstrip: when frames are taken, what they hold, and what a kill changes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmae.errors import FilmstripError
from pmae.inference.checkpoint import LoadedCheckpoint
from pmae.runs.frames import (
    FRAME_PANELS,
    MOST_FRAMES,
    Frame,
    frame_epochs,
    frames,
    read_frame,
    read_reference,
)
from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec
from tests.pmae.training.conftest import TrainHere

# Lightning uses what torch deprecates, and advises on what is on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
]


@given(st.integers(1, 100_000))
def test_frames_are_few_and_hold_both_ends(epochs: int) -> None:
    chosen = frame_epochs(epochs)
    assert {0, 1, epochs} <= chosen
    assert max(chosen) == epochs
    assert len(chosen) <= MOST_FRAMES + 1
    if epochs <= MOST_FRAMES:
        assert len(chosen) == epochs + 1


def test_later_frames_lie_farther_apart() -> None:
    gaps = np.diff(sorted(frame_epochs(800)))
    assert gaps[0] == 1
    assert gaps[-1] > 20
    # Rounding to whole epochs may shorten a gap by one.
    assert (np.diff(gaps) >= -1).all()


@pytest.fixture
def trained(tmp_path: Path, tiny_spec: ExperimentSpec, train_here: TrainHere) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.spec.write_text(tiny_spec.model_dump_json())
    assert train_here(run) == 0
    return run


def test_a_run_is_filmed_and_films_again_what_it_repeats(
    trained: RunDir, tiny_spec: ExperimentSpec, train_here: TrainHere
) -> None:
    before = {frame.step: read_frame(frame) for frame in frames(trained)}
    steps = sorted(before)
    assert [int(before[step]["epoch"]) for step in steps] == list(range(tiny_spec.epochs + 1))
    assert steps[0] == 0
    reference = read_reference(trained)
    assert reference is not None
    assert reference["original"].shape == (8, 8, 8, 3)
    assert reference["labels"].shape == (8,)
    assert all(before[step]["full"].shape == (8, 8, 8, 3) for step in steps)
    assert (before[steps[-1]]["full"] != before[0]["full"]).any()

    # As after a kill: the newest checkpoints are lost, and their steps are trained again.
    kept = sorted(trained.lease(1).checkpoints.iterdir())
    for folder in kept[1:]:
        (folder / "manifest.json").unlink()
    assert train_here(trained) == 0
    after = {frame.step: frame for frame in frames(trained)}
    assert sorted(after) == steps
    again = [
        step for step, frame in after.items() if frame.path.is_relative_to(trained.lease(2).path)
    ]
    assert again
    assert 0 not in again
    for step, frame in after.items():
        for name in FRAME_PANELS:
            np.testing.assert_array_equal(read_frame(frame)[name], before[step][name])


def test_the_last_frame_is_what_the_last_checkpoint_makes_of_the_images(
    trained: RunDir, storage: StorageSettings
) -> None:
    last = frames(trained)[-1]
    folder = trained.lease(1).checkpoints / f"step-{last.step:08d}"
    loaded = LoadedCheckpoint.load(folder, storage)
    result = loaded.reconstruct(split="val", indices=range(8), masking=None, seed=0)
    reference = read_reference(trained)
    assert reference is not None
    np.testing.assert_array_equal(result.panels["original"], reference["original"])
    assert list(reference["labels"]) == result.labels


def test_what_was_not_filmed_and_what_is_damaged(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert frames(run) == []
    assert read_reference(run) is None
    lease = run.lease(1)
    lease.filmstrip.mkdir(parents=True)
    path = lease.filmstrip / "step-00000010.npz"
    path.write_bytes(b"no npz")
    assert frames(run) == [Frame(10, path)]
    with pytest.raises(FilmstripError, match="step-00000010"):
        read_frame(frames(run)[0])
