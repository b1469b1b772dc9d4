"""A dashboard and a browser, with answers from memory behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.dashboard.browser import TIMEOUT_MS, Dashboard, Watched, chromium, watched_page
from tests.dashboard.fake_service import FakeService, serving
from tests.dashboard.server import served_dashboard
from tests.support.ports import free_port

expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def dashboard(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard without a service: the tests start and stop one."""
    folder = tmp_path_factory.mktemp("dashboard")
    api_port = free_port()
    settings = {"PMAE_API_URL": f"http://127.0.0.1:{api_port}"}
    with served_dashboard(folder, settings) as served:
        yield Dashboard(served.url, api_port)


@pytest.fixture
def service(dashboard: Dashboard) -> Iterator[FakeService]:
    service = FakeService()
    with serving(service, dashboard.api_port):
        yield service


@pytest.fixture
def watched(browser: Browser, dashboard: Dashboard) -> Iterator[Watched]:
    with watched_page(browser, dashboard.url) as watched:
        yield watched
