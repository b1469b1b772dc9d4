"""A backup of a service that trains, restored into an empty one."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from pmae.client import PmaeClient
from pmae.schema import Run
from tests.docker.engine.lab import (
    LONG,
    WEIGHTS,
    Lab,
    assert_same,
    shell,
    trains,
)
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]


def test_a_backup_under_way_of_training_is_restored_and_its_run_goes_on(
    lab: Lab, admin: PmaeClient, quickstart: Run, reference: Run
) -> None:
    run = admin.submit(LONG, priority=1)
    wait_until(lambda: trains(admin, run.id), "its training", seconds=300)
    lab.compose("run", "--rm", "-T", "backup", "pmae", "backup", "/backup", "--keep", "2")
    assert admin.run(run.id).state == "running"
    lab.compose("down", "-v", "--timeout", "60")

    lab.compose("run", "--rm", "-T", "backup", "pmae", "restore", "/backup")
    lab.up()
    assert admin.run(quickstart.id).state == "succeeded", "the key holds, the run is there"
    checkpoint = next(admin.checkpoints(quickstart.id, kind="kept"))
    (link,) = admin.download_links(checkpoint.id, file_name=WEIGHTS)
    weights = httpx.get(link.url, trust_env=False).content
    assert hashlib.sha256(weights).hexdigest() == checkpoint.files[WEIGHTS].sha256
    owners = shell(lab.containers("api")[0], "find /var/lib/pmae -not -uid 10001").stdout
    assert owners == ""
    new = admin.submit(preset="quickstart", spec={"epochs": 5}, priority=1)
    assert lab.wait_for_end(admin, new.id).state == "succeeded"
    assert lab.wait_for_end(admin, run.id).state == "succeeded"
    assert_same(admin, run.id, reference.id)
    refused = lab.compose("run", "--rm", "-T", "backup", "pmae", "restore", "/backup", check=False)
    assert refused.returncode != 0
    assert "the database is in use" in refused.stderr
    assert "docker compose stop api worker" in refused.stderr
