"""Whatever breaks under a run, it ends once, with the bits of a run that nothing happened to."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pmae.spec import ExperimentSpec
from tests.faults import faults
from tests.faults.conftest import LONG
from tests.faults.faults import FAULTS, Fault
from tests.faults.judge import Outcome, judge
from tests.faults.lab import Lab
from tests.faults.table import Row, Table
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(900)]
ON_SQLITE = (faults.worker_child_killed, faults.worker_stopped, faults.database_locked)
"""The short form has every fault on PostgreSQL, and on SQLite those that lean on the database."""


def _cases() -> list[object]:
    return [
        pytest.param(database, fault, id=f"{database}-{fault.inject.__name__}")
        for database in ("postgresql", "sqlite")
        for fault in FAULTS
        if database in fault.databases
        if database == "postgresql" or fault.inject in ON_SQLITE or os.environ.get(LONG)
    ]


@pytest.mark.parametrize(("database", "fault"), _cases())
def test_a_run_survives(
    lab_on: Callable[[str], Lab],
    database: str,
    fault: Fault,
    spec: ExperimentSpec,
    expected: Outcome,
    fault_table: Table,
    repetition: int,
) -> None:
    lab = lab_on(database)
    run_id = lab.submit(spec)
    seconds = fault.inject(lab, run_id)
    row = judge(lab, run_id, expected)
    fault_table.add(Row(fault.name, database, row.lease_number, seconds, fault.goal_seconds))


def test_a_cancelled_run_frees_its_process_and_can_be_resumed(
    lab_on: Callable[[str], Lab], spec: ExperimentSpec, expected: Outcome, fault_table: Table
) -> None:
    lab = lab_on("postgresql")
    run_id = lab.submit(spec)
    lab.wait_for_training(run_id, step=10)
    began = time.monotonic()
    lab.client.cancel(run_id)
    while lab.trainers(run_id):
        time.sleep(0.02)
    seconds = time.monotonic() - began
    assert lab.wait_for_end(run_id).state == "cancelled"
    lab.client.resume(run_id)
    row = judge(lab, run_id, expected, ends=2)
    name = "cancelled (until its process is gone), resumed"
    fault_table.add(Row(name, "postgresql", row.lease_number, seconds, 12))


def test_a_worker_that_is_started_again_waits_for_no_lease(
    crashing_postgres: PostgresServer, spec: ExperimentSpec, expected: Outcome, fault_table: Table
) -> None:
    """As a deployment's restart policy starts it; nobody else is there to go on with the run."""
    with Lab(crashing_postgres, num_workers=1, lease_seconds=60) as lab:
        run_id = lab.submit(spec)
        seconds = faults.worker_restarted(lab, run_id)
        row = judge(lab, run_id, expected)
        told = [entry.message for entry in lab.client.history(run_id).items]
    assert "its worker died and was restarted" in told
    name = "kill -9 of the worker, started again (lease of 60 s)"
    fault_table.add(Row(name, "postgresql", row.lease_number, seconds, 10))


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root can mount a small disk"
)
def test_a_run_survives_a_full_disk(
    crashing_postgres: PostgresServer, spec: ExperimentSpec, expected: Outcome, fault_table: Table
) -> None:
    def on_a_small_disk(home: Path, command: list[str]) -> list[str]:
        script = 'mkdir -p "$0" && mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"'
        return ["unshare", "-m", "sh", "-c", script, str(home / "artifacts"), *command]

    with Lab(crashing_postgres, num_workers=1, worker_wrapper=on_a_small_disk) as lab:
        run_id = lab.submit(spec)
        faults.disk_filled(lab, run_id)
        row = judge(lab, run_id, expected, ends=2)
    fault_table.add(Row("disk full, resumed", "postgresql", row.lease_number, None, None))


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_run_survives_clocks_that_differ(
    crashing_postgres: PostgresServer,
    spec: ExperimentSpec,
    expected: Outcome,
    fault_table: Table,
    tmp_path: Path,
) -> None:
    """The workers' hosts are three hours ahead of the API's and the database's."""
    library = tmp_path / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = ["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)

    def three_hours_ahead(_home: Path, command: list[str]) -> list[str]:
        return ["env", f"LD_PRELOAD={library}", *command]

    with Lab(crashing_postgres, worker_wrapper=three_hours_ahead) as lab:
        run_id = lab.submit(spec)
        seconds = faults.worker_stopped(lab, run_id)
        row = judge(lab, run_id, expected)
    name = "the workers' clocks three hours ahead; one frozen"
    fault_table.add(Row(name, "postgresql", row.lease_number, seconds, None))
