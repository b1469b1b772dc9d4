"""A dashboard and a browser, with answers from memory behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.dashboard.app import SCRIPT
from tests.dashboard.browser import TIMEOUT_MS, Dashboard, Watched, chromium, watched_page
from tests.dashboard.fake_service import FakeService, serving
from tests.support.ports import free_port
from tests.support.waiting import wait_until

expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def dashboard(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Started as the supervisor does, from a folder that has nothing to do with the project."""
    folder = tmp_path_factory.mktemp("dashboard")
    port, api_port = free_port(), free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(SCRIPT)]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PMAE_API_URL": f"http://127.0.0.1:{api_port}"},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _healthy(url), "the dashboard's start")
        yield Dashboard(url, api_port)
    finally:
        process.terminate()
        process.wait(timeout=30)
    assert "Traceback" not in (folder / "log").read_text()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_stcore/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def service(dashboard: Dashboard) -> Iterator[FakeService]:
    service = FakeService()
    with serving(service, dashboard.api_port):
        yield service


@pytest.fixture
def watched(browser: Browser, dashboard: Dashboard) -> Iterator[Watched]:
    with watched_page(browser, dashboard.url) as watched:
        yield watched
