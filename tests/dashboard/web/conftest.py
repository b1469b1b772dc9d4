"""A dashboard of a service that asks for keys, both as they are served."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.api.live import LiveApi
from tests.dashboard.locked import locked_service
from tests.dashboard.server import ServedDashboard, served_dashboard


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApi]:
    with locked_service(tmp_path_factory.mktemp("service")) as live:
        yield live


@pytest.fixture(scope="module")
def dashboard(live: LiveApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedDashboard]:
    folder = tmp_path_factory.mktemp("dashboard")
    with served_dashboard(folder, {"PMAE_API_URL": live.url}) as served:
        yield served


@pytest.fixture
def browser(dashboard: ServedDashboard) -> Iterator[httpx.Client]:
    """What a browser sends when the reader follows a link, with a jar of cookies of its own."""
    headers = {"Accept": "text/html,*/*", "User-Agent": "Mozilla/5.0 (X11; Linux) Firefox/131.0"}
    with httpx.Client(base_url=dashboard.url, headers=headers, trust_env=False) as client:
        yield client
