"""A real server, once on SQLite and once on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.settings import ApiSettings
from tests.api.live import LiveApi, live_api


@pytest.fixture
def api_settings(database_url: str, tmp_path: Path) -> ApiSettings:
    """No broker: requests must be served all the same. No keys, also on PostgreSQL."""
    return ApiSettings(
        home=tmp_path / "home",
        database_url=database_url,
        require_keys=False,
        broker_url=f"redis+socket://{tmp_path}/no-broker.sock",
        broker_timeout_seconds=0.1,
        stream_poll_seconds=0.02,
        stream_heartbeat_seconds=0.1,
    )


@pytest.fixture
def api(api_settings: ApiSettings) -> Iterator[LiveApi]:
    with live_api(api_settings) as served:
        yield served
