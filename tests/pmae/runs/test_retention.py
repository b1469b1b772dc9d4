"""Which checkpoints stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmae.errors import SpecError
from pmae.runs.checkpoints import Manifest, checkpoint_name
from pmae.runs.layout import MANIFEST_FILE, PINNED_FILE, LeaseDir, RunDir
from pmae.runs.removal import need_mark, need_marks, remove_unless_marked
from pmae.runs.retention import retain, superfluous
from pmae.spec import CheckpointSpec, ExperimentSpec, resolve


def manifest(step: int, **metrics: float) -> Manifest:
    return Manifest(
        name=checkpoint_name(step),
        kind="kept",
        step=step,
        epoch=step / 10,
        lease=1,
        created_at=0,
        files={},
        metrics=metrics,
    )


def write(lease: LeaseDir, step: int, **metrics: float) -> Path:
    folder = lease.checkpoints / checkpoint_name(step)
    folder.mkdir(parents=True)
    (folder / MANIFEST_FILE).write_text(manifest(step, **metrics).model_dump_json())
    return folder


def going(kept: list[Manifest], *, milestones: tuple[int, ...] = (), **spec: object) -> list[int]:
    found = superfluous(kept, CheckpointSpec.model_validate(spec), frozenset(milestones))
    return [one.step for one in found]


def test_all_stay_unless_the_spec_says_how_many() -> None:
    assert going([manifest(step) for step in (10, 20, 30)]) == []


def test_the_last_the_best_and_milestones_stay() -> None:
    losses = {10: 0.5, 20: 0.1, 30: 0.3, 40: 0.4, 50: 0.2}
    kept = [manifest(step, val_loss=loss) for step, loss in losses.items()]
    assert going(kept, keep_last=1) == [10, 20, 30, 40]
    assert going(kept, keep_last=1, keep_best="val_loss") == [10, 30, 40]
    assert going(kept, keep_last=2, keep_best="val_loss", milestones=(30,)) == [10]


def test_the_best_accuracy_is_the_highest_and_of_equals_the_later() -> None:
    kept = [manifest(s, val_online_probe_top1=t) for s, t in ((10, 0.9), (20, 0.9), (30, 0.1))]
    assert going(kept, keep_last=1, keep_best="val_online_probe_top1") == [10]


def test_without_the_metric_nothing_is_the_best() -> None:
    assert going([manifest(10), manifest(20)], keep_last=1, keep_best="val_loss") == [10]


@given(
    steps=st.sets(st.integers(1, 100), min_size=1),
    keep_last=st.integers(1, 5),
    milestones=st.sets(st.integers(1, 100)),
)
def test_the_newest_always_stay(steps: set[int], keep_last: int, milestones: set[int]) -> None:
    removed = going(
        [manifest(step) for step in steps], keep_last=keep_last, milestones=tuple(milestones)
    )
    assert set(removed) == set(sorted(steps)[:-keep_last]) - milestones


def test_what_is_superfluous_is_removed_over_all_leases_but_newer_ones(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    folders = {step: write(run.lease(1), step) for step in (10, 20)}
    folders |= {step: write(run.lease(2), step) for step in (30, 40)}
    newer = write(run.lease(3), 25)
    (folders[10] / PINNED_FILE).touch()
    broken = run.lease(1).checkpoints / checkpoint_name(15)
    broken.mkdir()
    assert retain(run.lease(2), CheckpointSpec(keep_last=1), frozenset()) == [
        checkpoint_name(20),
        checkpoint_name(30),
    ]
    assert [step for step, folder in folders.items() if folder.is_dir()] == [10, 40]
    assert newer.is_dir()
    assert broken.is_dir()
    assert list(tmp_path.rglob(".removed-*")) == []


@pytest.mark.parametrize("needed", [False, True])
def test_a_marked_checkpoint_stays_whole(tmp_path: Path, needed: bool) -> None:
    run = RunDir(tmp_path)
    folder = write(run.lease(1), 10)
    mark = need_mark(folder, "3f9c0a1b2c4d") if needed else folder / PINNED_FILE
    mark.touch()
    assert need_marks(run) == ([(mark, "3f9c0a1b2c4d")] if needed else [])
    assert not remove_unless_marked(folder)
    assert (folder / MANIFEST_FILE).is_file()
    mark.unlink()
    assert remove_unless_marked(folder)
    assert remove_unless_marked(folder)  # somebody was faster
    assert not folder.exists()


@pytest.mark.parametrize(
    ("checkpoint", "field", "valid"),
    [
        ({"keep_best": "val_loss"}, "keep_best", "give keep_last too"),
        ({"milestones": [3, 900]}, "milestones", "900 is none of them"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    checkpoint: dict[str, object], field: str, valid: str
) -> None:
    spec = ExperimentSpec.model_validate({"dataset": {"name": "digits"}, "checkpoint": checkpoint})
    with pytest.raises(SpecError, match=valid) as caught:
        resolve(spec)
    assert caught.value.field == ("checkpoint", field)
