"""Images that stay in their files: the same batches as in memory, read ahead by workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pmae.data.images import Batch, MemorySplit
from pmae.data.readers.folder import load_folder
from pmae.data.registry import load_data
from pmae.data.streaming import FileSplit
from pmae.errors import DataError
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec
from tests.pmae.data.formats import write_class_folders

CLASSES = ("ant", "bee", "wasp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_class_folders(tmp_path / "insects", CLASSES, images_per_class=20, size=16)
    return tmp_path / "insects"


@pytest.fixture
def split(folder: Path) -> Iterator[FileSplit]:
    """The training images, with two workers."""
    train = load_folder("folder:insects", folder, 8).train
    assert isinstance(train, FileSplit)
    streamed = FileSplit(train.files, train.labels, workers=2)
    yield streamed
    streamed.close()


def _same(batch: Batch, other: Batch) -> bool:
    return torch.equal(batch.images, other.images) and torch.equal(batch.labels, other.labels)


def _workers() -> set[int]:
    """This process's children that decode."""
    tasks = Path("/proc/self/task").iterdir()
    children = [int(child) for task in tasks for child in _read(task / "children").split()]
    return {i for i in children if b"multiprocessing.spawn" in _read(Path(f"/proc/{i}/cmdline"))}


def _read(path: Path) -> bytes:
    """What stands there; nothing of a thread or a process that has ended since it was listed."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.slow
def test_workers_give_what_memory_gives_and_are_started_once(split: FileSplit) -> None:
    memory = split.in_memory()
    assert isinstance(memory, MemorySplit)
    assert memory.num_bytes == split.num_bytes == 42 * 3 * 64
    assert memory.image_shape == split.image_shape == (3, 8, 8)
    before = _workers()
    wanted = [torch.randperm(42)[:5] for _ in range(12)]
    pairs = zip(split.batches(wanted), memory.batches(wanted), strict=True)
    assert all(_same(streamed, held) for streamed, held in pairs)
    started = _workers() - before
    assert len(started) == 2
    assert all(map(_same, split.in_order(10), memory.in_order(10)))
    abandoned = split.batches(torch.arange(42).split(2))
    next(abandoned)
    # A second pass while the first is under way has workers of its own, for as long as it lasts.
    assert all(map(_same, split.in_order(10), memory.in_order(10)))
    assert _same(next(abandoned), memory.take(torch.tensor([2, 3])))
    del abandoned
    assert all(map(_same, split.in_order(10), memory.in_order(10)))
    assert _workers() - before == started
    split.close()
    assert not started & _workers()


def test_reading_ahead_leaves_the_runs_randomness_alone(split: FileSplit) -> None:
    before = torch.get_rng_state()
    assert len(list(split.in_order(10))) == 5
    assert torch.equal(torch.get_rng_state(), before)


def test_the_digest_is_that_of_the_file_list_held_or_streamed(
    folder: Path, split: FileSplit
) -> None:
    digests = [split.digest()]
    assert split.in_memory().digest() == digests[0]
    moved = folder.rename(folder.with_name("elsewhere"))
    again = load_folder("folder:insects", moved, 8).train
    assert again.digest() == digests[0]
    rows = torch.arange(7)
    assert again.select(rows).digest() != digests[0]
    digests.append(load_folder("folder:insects", moved, 12).train.digest())
    path = moved / "ant" / "0000.png"
    path.write_bytes(path.read_bytes() + b"\0")
    changed = load_folder("folder:insects", moved, 8)
    digests.append(changed.digest())
    (moved / "ant" / "0001.png").rename(moved / "ant" / "0001b.png")
    digests.append(load_folder("folder:insects", moved, 8).digest())
    assert len(set(digests)) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_while_streaming_is_named(folder: Path, workers: int) -> None:
    train = load_folder("folder:insects", folder, 8).train
    assert isinstance(train, FileSplit)
    split = FileSplit(train.files, train.labels, workers=workers)
    path = split.files.path(split.files.names[7])
    path.write_bytes(b"broken")
    batches = split.in_order(5)
    next(batches)
    with pytest.raises(DataError) as caught:
        next(batches)
    assert str(caught.value).startswith(f"{path} is not an image (")
    split.close()


def test_what_fits_is_held_and_what_does_not_is_streamed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = StorageSettings(data_root=folder.parent)
    spec = DatasetSpec(name="folder:insects", resolution=8)
    size = 60 * 3 * 64
    monkeypatch.setattr(storage, "data_memory_bytes", size)
    held = load_data(spec, storage)
    assert all(isinstance(part, MemorySplit) for part in held.splits.values())
    monkeypatch.setattr(storage, "data_memory_bytes", size - 1)
    streamed = load_data(spec, storage)
    assert all(isinstance(part, FileSplit) for part in streamed.splits.values())
    assert streamed.digest() == held.digest()
    for name, part in streamed.splits.items():
        assert all(map(_same, part.in_order(9), held.split(name).in_order(9)))
        assert torch.equal(part.labels, held.split(name).labels)


_TRAINER = """
import os, signal, sys, time
from pathlib import Path
import torch
from pmae.data.streaming import FileSplit
from pmae.data.readers.folder import load_folder

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: print("asked to leave", flush=True))
    train = load_folder("folder:insects", Path(sys.argv[1]), 8).train
    split = FileSplit(train.files, train.labels, workers=2)
    batches = split.batches(torch.arange(42).split(2))
    next(batches)
    print("started", flush=True)
    sys.stdin.readline()
    print(1 + len(list(batches)), flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="senders are unknown on macOS")
def test_a_schedulers_sigterm_to_all_processes_leaves_the_workers_at_work(
    folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(_TRAINER)
    trainer = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == "started\n"
        os.killpg(trainer.pid, signal.SIGTERM)
        assert trainer.stdout.readline() == "asked to leave\n"
        output, _ = trainer.communicate("go on\n", timeout=60)
        assert output == "21\n"
        assert trainer.returncode == 0
        _wait_until_gone(trainer.pid)
    finally:
        if trainer.poll() is None:
            os.killpg(trainer.pid, signal.SIGKILL)
        trainer.wait()


def _wait_until_gone(group: int) -> None:
    """Until no process of a group is left."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a worker outlived its trainer")
