"""The lab's deployment, built and started once for the tests of this folder, and runs of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from pmae.client import PmaeClient
from pmae.schema import Run
from tests.dashboard.browser import TIMEOUT_MS, chromium
from tests.docker.compose import has_compose
from tests.docker.engine.lab import DOMAIN, LONG, Lab

LEASE_SECONDS = 40


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A deployment that is up, with two workers and the key of an admin.

    Skipped where there is no engine. ``PMAE_KEEP_LAB=1`` leaves it up.
    """
    if not has_compose() or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker engine answers, or its client has no compose plugin")
    lab = Lab(
        tmp_path_factory.mktemp("lab"),
        f"pmae-test-{os.getpid()}",
        {"PMAE_LEASE_SECONDS": str(LEASE_SECONDS), "PMAE_WORKERS": "2"},
    )
    try:
        lab.compose("build", seconds=2400)
        lab.up()
        lab.key = lab.make_key("admin")
        yield lab
    finally:
        if os.environ.get("PMAE_KEEP_LAB") != "1":
            lab.remove()


@pytest.fixture(scope="session")
def admin(lab: Lab) -> Iterator[PmaeClient]:
    """The admin's client."""
    with lab.client() as client:
        yield client


@pytest.fixture(scope="session")
def quickstart(lab: Lab, admin: PmaeClient) -> Run:
    """A finished run of the quickstart, shortened."""
    run = lab.wait_for_end(admin, admin.submit(preset="quickstart", spec={"epochs": 10}).id)
    assert run.state == "succeeded", run.reason
    return run


@pytest.fixture(scope="session")
def reference(lab: Lab, admin: PmaeClient) -> Run:
    """A finished run of LONG to which nothing happened."""
    run = lab.wait_for_end(admin, admin.submit(LONG).id)
    assert run.state == "succeeded", run.reason
    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of this machine, to which the proxy's name means this machine."""
    expect.set_options(timeout=TIMEOUT_MS)
    with chromium(f"--host-resolver-rules=MAP {DOMAIN} 127.0.0.1") as found:
        yield found
