"""One process of the embedded service, its guard, and what they leave behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pmae.up.process import MAX_BACK_OFF_SECONDS, Service
from tests.support.processes import processes_that_mention
from tests.support.waiting import wait_until

SLEEP = "import sys, time; time.sleep(600)"
WITH_A_CHILD = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEP!r}, sys.argv[1]], start_new_session=True)
print("ready", flush=True)
"""


@pytest.fixture
def mark(tmp_path: Path) -> str:
    """In the command line of every process of a test."""
    return str(tmp_path / "mark")


Start = Callable[[str], Service]


@pytest.fixture
def start(tmp_path: Path, mark: str) -> Iterator[Start]:
    started: list[Service] = []

    def start_script(script: str) -> Service:
        command = [sys.executable, "-c", script, mark]
        service = Service("thing", command, tmp_path / "thing.log", 5.0, lambda: True)
        service.start(os.environ, tmp_path)
        started.append(service)
        return service

    yield start_script
    for service in started:
        service.kill()


def is_ready(tmp_path: Path) -> bool:
    return "ready" in (tmp_path / "thing.log").read_text()


def test_each_end_is_followed_by_a_longer_pause(start: Start, tmp_path: Path, mark: str) -> None:
    thing = start("print('the reason'); raise SystemExit(3)")
    pauses = []
    for _ in range(8):
        wait_until(lambda: not thing.running, "its end")
        newly = [thing.ended_newly]
        pauses.append(thing.back_off())
        newly.append(thing.ended_newly)
        assert newly == [True, False]
        assert thing.back_off() <= pauses[-1]
        thing.start(os.environ, tmp_path)
    assert pauses == [1, 2, 4, 8, 16, *[MAX_BACK_OFF_SECONDS] * 3]
    wait_until(lambda: not thing.running, "its end")
    assert thing.exit_status == 3
    assert "the reason" in thing.log_tail()


def test_what_the_main_process_leaves_behind_ends_with_it(
    start: Start, tmp_path: Path, mark: str
) -> None:
    thing = start(WITH_A_CHILD)
    wait_until(lambda: not thing.running, "the end of the guard")
    assert thing.exit_status == 0
    assert processes_that_mention(mark) == []


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_nothing_is_left_of_a_killed_one(start: Start, tmp_path: Path, mark: str, how: str) -> None:
    thing = start(WITH_A_CHILD + SLEEP)
    wait_until(lambda: is_ready(tmp_path), "its child")
    assert len(processes_that_mention(mark)) == 3, "guard, service, and the service's child"
    if how == "closed":
        thing.kill()
        assert thing.exit_status == 128 + signal.SIGKILL
        assert processes_that_mention(mark) == []
        return
    # The guard itself: the service, its direct child, goes with it.
    assert thing._guard is not None
    (child,) = guard_children(thing._guard.pid)
    thing._guard.kill()
    thing._guard.wait()
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the service's end")
    for orphan in processes_that_mention(mark):
        os.kill(orphan, signal.SIGKILL)


def guard_children(pid: int) -> list[int]:
    return [int(i) for i in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_request_to_end_reaches_the_main_process_only(start: Start, tmp_path: Path) -> None:
    script = """
import signal, sys, time
def end(*_):
    print("ended in its own time", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""
    thing = start(script)
    wait_until(lambda: is_ready(tmp_path), "its start")
    thing.terminate()
    wait_until(lambda: not thing.running, "its end")
    assert thing.exit_status == 7
    assert "in its own time" in thing.log_tail()


def test_the_status_of_a_service_that_a_signal_ended(
    start: Start, tmp_path: Path, mark: str
) -> None:
    thing = start("import os; os.kill(os.getpid(), 15)")
    wait_until(lambda: not thing.running, "its end")
    assert thing.exit_status == 128 + 15
