"""The lab's deployment, built and started once for the tests of this folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.compose import has_compose
from tests.docker.engine.lab import Lab

LEASE_SECONDS = 40
WANTED = ("python:3.11-slim", "postgres:15", "redis:7", "caddy:2")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A deployment that is up, with two workers and the key of an admin.

    Skipped where there is no engine. ``PMAE_KEEP_LAB=1`` leaves it up.
    """
    if not has_compose() or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker engine answers, or its client has no compose plugin")
    folder = tmp_path_factory.mktemp("lab")
    folder.chmod(0o755)
    for parent in folder.parents[:2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    lab = Lab(
        folder,
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
