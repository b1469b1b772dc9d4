"""``pmae demo`` from its start to its exit status, with the real service in one home."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pmae.spec import ExperimentSpec
from pmae.up import broker
from tests.stack import environment
from tests.support.ports import free_port
from tests.support.processes import processes_that_mention
from tests.support.specs import DIVERGING, ENDLESS
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(600)]

LONGER = ENDLESS.model_copy(update={"name": "longer", "epochs": 100, "evaluations": ()})


@contextmanager
def demo(home: Path, spec: ExperimentSpec) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A ``pmae demo --exit`` process and the file of what it prints."""
    home.mkdir(exist_ok=True)
    file, output = home / f"{spec.name}.json", home / f"{spec.name}.out"
    file.write_text(spec.model_dump_json(exclude_unset=True))
    arguments = [sys.executable, "-c", "from pmae.cli import main; main()", "demo", "--exit"]
    with output.open("wb") as out:
        process = subprocess.Popen(
            [*arguments, "--preset", str(file)],
            env=environment(home, free_port(), free_port()),
            stdout=out,
            stderr=out,
        )
    try:
        yield process, output
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def runs(home: Path) -> dict[str, tuple[str, int, int]]:
    """State, lease number and attempt of each run, by name."""
    with closing(sqlite3.connect(home / "pmae.sqlite3")) as database:
        rows = database.execute("SELECT name, state, lease_number, attempt FROM runs").fetchall()
    return {name: tuple(facts) for name, *facts in rows}


def _trains(home: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{home}/pmae.sqlite3?mode=ro", uri=True)) as database:
            found = database.execute("SELECT progress FROM runs").fetchone()
    except sqlite3.OperationalError:  # there is no database, or no table, yet
        return False
    return found is not None and '"stage": "pretrain"' in found[0] and '"done"' in found[0]


def test_interrupted_then_resumed_and_failed(tmp_path: Path) -> None:
    home = tmp_path / "home"

    with demo(home, LONGER) as (process, output):
        wait_until(lambda: _trains(home), "training", seconds=120)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    assert "Traceback" not in output.read_text()
    assert runs(home) == {"longer": ("queued", 1, 0)}, "drained, and no attempt used up"
    assert processes_that_mention(str(tmp_path)) == []

    # A broker that a supervisor of before left behind does not keep the next one from starting.
    socket = home / "run" / "broker.sock"
    left_over = subprocess.Popen(broker.command(socket), stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: broker.answers(socket), "the broker")
        with demo(home, DIVERGING) as (process, output):
            assert process.wait(timeout=240) == 1
        assert left_over.wait(timeout=10) == 0
    finally:
        left_over.kill()
        left_over.wait()
    assert "has failed: the loss is not finite at step" in output.read_text().replace("\n", " ")
    assert "Traceback" not in output.read_text()
    assert runs(home)["longer"] == ("succeeded", 2, 1), "it went on where it was, before the other"
    assert runs(home)["diverging"][0] == "failed"
    assert processes_that_mention(str(tmp_path)) == []
    assert not socket.exists()


def test_what_cannot_be_run_is_told_before_anything_starts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / "broken.json").write_text('{"epochs": -1}')
    for source, told in (("no-such-preset", "quickstart"), ("broken.json", "epochs")):
        done = subprocess.run(
            [sys.executable, "-c", "from pmae.cli import main; main()", "demo", "--preset", source],
            env=environment(home, free_port(), free_port()) | {"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert not home.exists()
