"""Workers, stores and networks that fail under a run: it ends as one to which nothing happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pmae.client import ApiError, PmaeClient
from pmae.schema import TERMINAL_STATES, Run, RunSummary
from tests.docker.engine.lab import (
    LONG,
    Lab,
    assert_same,
    docker,
    inspect,
    trains,
)
from tests.support.specs import TINY
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]


def test_a_run_survives_its_workers_and_its_stores(
    lab: Lab, admin: PmaeClient, reference: Run
) -> None:
    run = admin.submit(LONG)
    wait_until(lambda: trains(admin, run.id), "its training", seconds=300)

    # The main process crashes: the restart policy brings it back, and it gives back what it held.
    worker = str(admin.run(run.id).worker)
    container = lab.worker_container(worker)
    os.kill(inspect(container)["State"]["Pid"], signal.SIGKILL)
    wait_until(lambda: trains(admin, run.id, lease=2), "its second start", seconds=180)
    changes = [entry for entry in admin.history(run.id).items if entry.type == "state"]
    back = [change.actor for change in changes if change.data["from"] == "running"]
    assert back == [worker], "no lease had to end"

    # A container is killed, and stays dead for a while: the lease ends.
    container = lab.worker_container(str(admin.run(run.id).worker))
    docker("kill", container)
    wait_until(lambda: trains(admin, run.id, lease=3), "its third start", seconds=240)
    docker("start", container)

    # The stores restart under it: it goes on, on the same lease.
    lab.compose("restart", "postgres", "redis")
    wait_until(lambda: trains(admin, run.id, lease=3), "its training", seconds=180)
    assert admin.run(run.id).lease_number == 3

    assert lab.wait_for_end(admin, run.id).state == "succeeded"
    assert_same(admin, run.id, reference.id)


def test_a_worker_that_is_cut_off_for_less_than_its_lease_goes_on_and_for_longer_loses_the_run(
    lab: Lab, admin: PmaeClient, reference: Run
) -> None:
    run = admin.submit(LONG)
    wait_until(lambda: trains(admin, run.id), "its training", seconds=300)
    network = f"{lab.project}_lab"
    container = lab.worker_container(str(admin.run(run.id).worker))

    docker("network", "disconnect", network, container)
    time.sleep(25)
    docker("network", "connect", network, container)
    wait_until(lambda: trains(admin, run.id), "its training", seconds=60)
    assert admin.run(run.id).lease_number == 1, "25 s are less than a lease"

    docker("network", "disconnect", network, container)
    cut = time.monotonic()
    wait_until(lambda: trains(admin, run.id, lease=2), "its second start", seconds=240)
    time.sleep(max(0, 100 - (time.monotonic() - cut)))
    docker("network", "connect", network, container)

    assert lab.wait_for_end(admin, run.id).state == "succeeded"
    assert_same(admin, run.id, reference.id)
    wait_until(lambda: len(admin.workers()) == 2, "the worker's return", seconds=180)


def test_all_containers_die_at_once_with_600_runs_queued(lab: Lab, admin: PmaeClient) -> None:
    before = {run.id for run in _all_runs(admin)}
    spec = TINY.model_copy(update={"epochs": 1, "evaluations": ()})
    # A key may write 600 times in a minute.
    many, few = (admin.with_key(lab.make_key(name)) for name in ("many", "few"))
    queued = {many.submit(spec).id for _ in range(600)}
    lab.compose("kill")
    lab.up()
    runs = list(_all_runs(admin))
    assert {run.id for run in runs} == before | queued
    assert not [run.id for run in runs if run.id in queued and run.state in ("failed", "cancelled")]

    def some_have_ended() -> bool:
        return sum(run.state == "succeeded" for run in _all_runs(admin)) > len(before) + 3

    wait_until(some_have_ended, "the end of some of them", seconds=300, every=1)
    for run in _all_runs(admin):
        if run.state not in TERMINAL_STATES:
            with suppress(ApiError):  # it ended a moment ago
                few.cancel(run.id)


def _all_runs(client: PmaeClient) -> Iterator[RunSummary]:
    cursor = None
    while True:
        page = client.runs(limit=500, cursor=cursor)
        yield from page.items
        if page.next_cursor is None:
            return
        cursor = page.next_cursor
