"""A lab's deployment: what its containers are, what they may do, and its first use."""

from __future__ import annotations

import hashlib
import os

import httpx
import pytest
from playwright.sync_api import Browser, expect

from pmae import __version__
from pmae.client import PmaeClient
from pmae.schema import Run
from tests.dashboard.browser import watched_page
from tests.docker.engine.lab import (
    DOMAIN,
    LONG,
    WEIGHTS,
    Lab,
    inspect,
    shell,
    trains,
)
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]


def test_the_images_say_what_they_are(lab: Lab) -> None:
    for service, name in (("api", "pmae"), ("worker", "pmae"), ("dashboard", "pmae-dashboard")):
        container = lab.containers(service)[0]
        labels = inspect(container)["Config"]["Labels"]
        assert labels["org.opencontainers.image.title"] == name
        assert labels["org.opencontainers.image.version"] == __version__
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


def test_no_trainer_knows_the_password(lab: Lab, admin: PmaeClient) -> None:
    run = admin.submit(LONG)
    wait_until(lambda: trains(admin, run.id), "its training", seconds=180)
    container = lab.worker_container(str(admin.run(run.id).worker))
    named = "grep -l {} /proc/[0-9]*/{} | cut -d/ -f3 | sort"
    knowing = shell(container, named.format(lab.password, "environ")).stdout.split()
    trainers = shell(container, named.format("pmae.train", "cmdline")).stdout.split()
    assert trainers
    assert knowing, "the worker itself has it"
    assert not set(knowing) & set(trainers)
    admin.cancel(run.id)
    assert lab.wait_for_end(admin, run.id).state == "cancelled"


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
    key = ["-e", f"PMAE_API_KEY={lab.key}"]
    workers = lab.compose("exec", "-T", *key, "worker", "pmae", "worker", "list").stdout
    assert len(workers.strip().splitlines()) >= 2


def test_a_reader_signs_in_once_looks_and_downloads(
    lab: Lab, admin: PmaeClient, quickstart: Run, browser: Browser
) -> None:
    checkpoint = next(admin.checkpoints(quickstart.id, kind="kept"))
    viewer = lab.make_key("reader", "viewer")
    with watched_page(browser, lab.dashboard_url) as watched:
        page = watched.page
        page.goto(f"{lab.dashboard_url}/run?run={quickstart.id}")
        page.get_by_label("API key").fill(viewer)
        page.get_by_role("button", name="Sign in").click()
        heading = page.get_by_role("heading", name=quickstart.name)
        expect(heading).to_be_visible()
        page.reload()
        expect(heading).to_be_visible()
        with page.expect_download() as downloaded:
            page.get_by_role("link", name=WEIGHTS).first.click()
        weights = downloaded.value.path().read_bytes()
        assert hashlib.sha256(weights).hexdigest() == checkpoint.files[WEIGHTS].sha256
        watched.faults = [fault for fault in watched.faults if lab.api_url not in fault]
        watched.open(f"/reconstructions?run={quickstart.id}")
        expect(page.locator(".pm-grid:not(.pm-film) img")).to_have_count(8 * 6)


def test_the_weights_come_by_a_link(lab: Lab, admin: PmaeClient, quickstart: Run) -> None:
    checkpoint = next(admin.checkpoints(quickstart.id, kind="kept"))
    (link,) = admin.download_links(checkpoint.id, file_name=WEIGHTS)
    weights = httpx.get(link.url, trust_env=False).content
    assert hashlib.sha256(weights).hexdigest() == checkpoint.files[WEIGHTS].sha256
