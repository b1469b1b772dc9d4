"""Websockets: a page of another site gets none, for it would carry the reader's cookie."""

from __future__ import annotations

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from tests.api.live import LiveApi
from tests.dashboard.locked import sign_in_token
from tests.dashboard.server import ServedDashboard


def open_stream(dashboard: ServedDashboard, origin: str | None, **headers: str) -> ClientConnection:
    """Open the websocket of a page."""
    return connect(
        f"ws://127.0.0.1:{dashboard.port}/_stcore/stream",
        origin=None if origin is None else Origin(origin),
        additional_headers=headers,
        subprotocols=[Subprotocol("streamlit")],
        proxy=None,
    )


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost:3000",
        "http://127.0.0.1:1",
        "http://0.0.0.0",
        "http://127.0.0.1",
        "null",
    ],
)
def test_a_page_of_another_origin_gets_no_websocket(
    dashboard: ServedDashboard, live: LiveApi, origin: str
) -> None:
    cookie = f"pmae_session_{dashboard.port}={sign_in_token(live, f'v-{abs(hash(origin))}')}"
    with pytest.raises(InvalidStatus) as refused:
        open_stream(dashboard, origin, Cookie=cookie)
    assert refused.value.response.status_code == 403


def test_the_dashboards_own_pages_and_programs_do(dashboard: ServedDashboard) -> None:
    for origin in (f"http://127.0.0.1:{dashboard.port}", None):
        with open_stream(dashboard, origin) as stream:
            assert stream.subprotocol == "streamlit"


def test_a_site_that_the_browser_calls_foreign_is(dashboard: ServedDashboard) -> None:
    own = f"http://127.0.0.1:{dashboard.port}"
    with pytest.raises(InvalidStatus):
        open_stream(dashboard, own, **{"Sec-Fetch-Site": "cross-site"})


def test_uploads_of_other_sites_are_refused(dashboard: ServedDashboard) -> None:
    address = f"{dashboard.url}/_stcore/upload_file/session/file"
    for method in ("PUT", "DELETE"):
        answer = httpx.request(
            method, address, headers={"Origin": "http://localhost:3000"}, trust_env=False
        )
        assert (answer.status_code, "may not send this" in answer.text) == (403, True)
