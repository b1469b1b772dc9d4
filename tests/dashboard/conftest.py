from __future__ import annotations

from collections.abc import Iterator

import pytest
import streamlit as st

from dashboard.connection import connection
from dashboard.web import reader
from tests.dashboard.app import App, Browser
from tests.dashboard.fake_service import FakeService, serving


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def own_browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    """The browser whose websocket opens the pages from now on: Streamlit's tests have none."""
    browser = Browser()
    monkeypatch.setattr(reader, "introduced", lambda: (browser.headers, browser.cookies))
    return browser


@pytest.fixture
def app(
    service: FakeService, own_browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> Iterator[App]:
    with serving(service) as url:
        monkeypatch.setenv("PMAE_API_URL", url)
        monkeypatch.setenv("PMAE_PUBLIC_API_URL", "https://lab.example")
        st.cache_resource.clear()
        st.cache_data.clear()
        yield App(url)
        connection().close()
        st.cache_resource.clear()
