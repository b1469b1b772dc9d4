"""A disk that fills while a run trains: a real, small one."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pmae.runs.checkpoints import newest_valid
from pmae.runs.events import ErrorEvent, EventWriter, StageEvent, WarningEvent, read_events
from pmae.runs.layout import MODEL_FILE, RunDir
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec
from pmae.training.process.signals import EXIT_DISK_FULL

ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size="$1" tmpfs "$2"
cp "$3"/spec.json "$2"
set +e
"$4" -m pmae.train "$2"
status=$?
cp -a "$2"/. "$3"
exit $status
"""
"""Size, mount point, the run's folder, Python. The mount is this process's own and goes with it."""


def _train(command: list[str], storage: StorageSettings) -> int:
    environment = {**os.environ, "PMAE_HOME": str(storage.home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    ).returncode


def _run(folder: Path, spec: ExperimentSpec) -> RunDir:
    folder.mkdir()
    run = RunDir(folder)
    run.spec.write_text(spec.model_dump_json())
    return run


def _may_mount() -> bool:
    unshare = shutil.which("unshare")
    return (
        unshare is not None
        and not subprocess.run(
            [unshare, "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
            capture_output=True,
            check=False,
        ).returncode
    )


@pytest.mark.slow
@pytest.mark.skipif(not _may_mount(), reason="no small disk can be mounted without being root")
def test_a_full_disk_fails_the_run_which_then_ends_with_the_same_bits(
    tmp_path: Path, tiny_spec: ExperimentSpec, storage: StorageSettings
) -> None:
    whole = _run(tmp_path / "whole", tiny_spec)
    assert _train([sys.executable, "-m", "pmae.train", str(whole.path)], storage) == 0
    reference, _ = newest_valid(whole)
    assert reference is not None

    # The kept checkpoint of step 12, the rolling one of step 13, and half of the next.
    size = sum(-(-file.stat().st_size // 4096) * 4096 for file in reference.iterdir())
    run, disk = _run(tmp_path / "run", tiny_spec), tmp_path / "disk"
    disk.mkdir()
    script = ["unshare", "-m", "sh", "-c", ON_A_SMALL_DISK, "sh"]
    arguments = [str(round(2.5 * size)), str(disk), str(run.path), sys.executable]
    assert _train([*script, *arguments], storage) == EXIT_DISK_FULL
    last_good, skipped = newest_valid(run)
    assert last_good is not None
    assert skipped == []
    assert 0 < int(last_good.name.removeprefix("step-")) < 24
    errors = [e for e in read_events(run.lease(1).events) if isinstance(e, ErrorEvent)]
    assert [error.code for error in errors] == ["disk_full"]

    assert _train([sys.executable, "-m", "pmae.train", str(run.path)], storage) == 0
    final, _ = newest_valid(run)
    assert final is not None
    assert final.name == reference.name
    assert (final / MODEL_FILE).read_bytes() == (reference / MODEL_FILE).read_bytes()


def test_an_event_after_a_torn_one_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    child = multiprocessing.get_context("spawn").Process(
        target=_write_until_it_is_full, args=(path,)
    )
    child.start()
    child.join(timeout=120)
    assert child.exitcode == 0
    lines = path.read_bytes().splitlines()
    assert StageEvent.model_validate_json(lines[0]).stage == "data"
    assert not lines[1].endswith(b"}")
    assert WarningEvent.model_validate_json(lines[2]).message == "room again"


def _write_until_it_is_full(path: Path) -> None:
    """The system's limit of a file's size stands for a disk that is full for a while."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = EventWriter(path)
    writer.write(StageEvent(stage="data"))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        writer.write(StageEvent(stage="basis"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    writer.write(WarningEvent(message="room again"))
