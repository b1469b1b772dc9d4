"""A lab's deployment from its first start to its restored backup. The tests follow one another."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser

from pmae.client import PmaeClient
from pmae.schema import Run
from pmae.spec import CheckpointSpec
from tests.dashboard.browser import chromium
from tests.docker.engine.lab import DOMAIN, Lab, docker, inspect, points, shell, trains
from tests.support.specs import TINY
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

LONG = TINY.model_copy(
    update={
        "name": "long",
        "epochs": 2_000,
        "log_every_steps": 50,
        "checkpoint": CheckpointSpec(every_epochs=1_000, latest_seconds=2),
    }
)
"""Trains for minutes, and is the same wherever and however often it was interrupted."""
WEIGHTS = "model.safetensors"
QUICK = {"epochs": 5}


@pytest.fixture(scope="module")
def admin(lab: Lab) -> Iterator[PmaeClient]:
    """The admin's client."""
    with lab.client() as client:
        yield client


@pytest.fixture(scope="module")
def reference(admin: PmaeClient) -> Run:
    """A run of LONG to which nothing happens. It trains while the first tests look elsewhere."""
    return admin.submit(LONG.model_copy(update={"name": "reference"}))


@pytest.fixture(scope="module")
def quickstart(lab: Lab, admin: PmaeClient) -> Run:
    """A finished run."""
    run = lab.wait_for_end(admin, admin.submit(preset="quickstart", spec={"epochs": 10}).id)
    assert run.state == "succeeded", run.reason
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of this machine."""
    with chromium() as found:
        yield found


def test_the_images_say_what_they_are(lab: Lab) -> None:
    for service, name in (("api", "pmae"), ("worker", "pmae"), ("dashboard", "pmae-dashboard")):
        container = lab.containers(service)[0]
        labels = inspect(container)["Config"]["Labels"]
        assert labels["org.opencontainers.image.title"] == name
        assert labels["org.opencontainers.image.version"] == "0.1.0"
        assert "org.opencontainers.image.revision" in labels
        left = shell(
            container, "ls -A /srv/pmae; find / -xdev -name 'pmae*egg-info' -o -path /source"
        )
        assert left.stdout == ""
    api, worker = (inspect(lab.containers(name)[0])["Image"] for name in ("api", "worker"))
    assert api == worker, "one image, one torch"


def test_our_containers_may_do_no_more_than_they_need(lab: Lab) -> None:
    for service in ("api", "worker", "dashboard"):
        container = lab.containers(service)[0]
        look = "id -u; grep CapEff /proc/self/status; touch /srv/pmae/x /etc/x /usr/local/x"
        looked = shell(container, look)
        uid, capabilities = looked.stdout.split("\n", 1)
        assert uid == "10001"
        assert capabilities.split()[1].strip("0") == ""
        assert looked.stderr.count("Read-only file system") == 3
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    dashboard = lab.containers("dashboard")[0]
    for host, port, reached in (
        ("api", 8000, True),
        ("postgres", 5432, False),
        ("redis", 6379, False),
    ):
        tried = shell(dashboard, f"python -c '{reach}' {host} {port}")
        assert (tried.returncode == 0) is reached, (host, tried.stderr)


def test_no_trainer_knows_the_password(lab: Lab, admin: PmaeClient, reference: Run) -> None:
    wait_until(lambda: trains(admin, reference.id), "the reference's training", seconds=180)
    container = lab.worker_container(str(admin.run(reference.id).worker))
    named = "grep -l {} /proc/[0-9]*/{} | cut -d/ -f3 | sort"
    knowing = shell(container, named.format(lab.password, "environ")).stdout.split()
    trainers = shell(container, named.format("pmae.train", "cmdline")).stdout.split()
    assert trainers
    assert knowing, "the worker itself has it"
    assert not set(knowing) & set(trainers)


def test_a_refused_password_is_told_in_a_sentence(lab: Lab) -> None:
    """One that no address could hold reaches the database, which has another one."""
    refused = lab.compose(
        "run",
        "--rm",
        "-T",
        "--no-deps",
        "migrate",
        check=False,
        environment={"POSTGRES_PASSWORD": "a@b%41c/#"},
    )
    assert refused.returncode != 0
    told = refused.stdout + refused.stderr
    assert "password authentication failed" in told
    assert "Traceback" not in told
    assert "b%41c" not in told


def test_a_stranger_is_refused_and_the_proxys_name_is_answered(lab: Lab) -> None:
    api = f"{lab.api_url}/api/v1"
    assert httpx.get(f"{api}/runs", trust_env=False).status_code == 401
    for host, status in ((DOMAIN, 200), ("elsewhere.example", 400), ("api", 200)):
        answer = httpx.get(f"{api}/readyz", headers={"Host": host}, trust_env=False)
        assert answer.status_code == status, (host, answer.text)


def test_commands_work_in_one_shot_containers(lab: Lab) -> None:
    listed = lab.compose(
        "run", "--rm", "-T", "--user", f"{os.getuid()}:{os.getgid()}", "data", "list"
    )
    assert "digits" in listed.stdout
    assert "nothing to remove" in lab.compose("exec", "-T", "api", "pmae", "gc", "--dry-run").stderr
    environment = ["-e", "PMAE_API_URL=http://api:8000", "-e", f"PMAE_API_KEY={lab.key}"]
    workers = lab.compose("run", "--rm", "-T", *environment, "api", "pmae", "worker", "list").stdout
    assert len(workers.strip().splitlines()) >= 2


def test_the_weights_come_by_a_link(lab: Lab, admin: PmaeClient, quickstart: Run) -> None:
    checkpoint = next(admin.checkpoints(quickstart.id, kind="kept"))
    (link,) = admin.download_links(checkpoint.id, file_name=WEIGHTS)
    weights = httpx.get(link.url, trust_env=False).content
    assert hashlib.sha256(weights).hexdigest() == checkpoint.files[WEIGHTS].sha256


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
    assert lab.wait_for_end(admin, reference.id).state == "succeeded"
    _assert_same(admin, run.id, reference.id)


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
    _assert_same(admin, run.id, reference.id)
    wait_until(lambda: len(admin.workers()) == 2, "the worker's return", seconds=180)


def _assert_same(admin: PmaeClient, run_id: str, reference_id: str) -> None:
    """No point is lost or doubled, and the weights are the same to the bit."""
    assert points(admin, run_id) == points(admin, reference_id)
    weights = [
        {ck.name: ck.files[WEIGHTS].sha256 for ck in admin.checkpoints(found, kind="kept")}
        for found in (run_id, reference_id)
    ]
    assert weights[0] == weights[1] != {}
