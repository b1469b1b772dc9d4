"""The dashboard as an application that a web server serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from dashboard.settings import DashboardSettings
from dashboard.web.guard import GuardMiddleware
from dashboard.web.pages import page_routes
from dashboard.web.sign_in import SignIn
from pmae.client import PmaeClient

SCRIPT = Path(__file__).parents[1] / "app.py"
"""Streamlit reads its options from ``.streamlit/config.toml`` beside it."""
_LOOK_SECONDS = 5.0
"""Timeout of the question who a page's reader is."""


def create_app(settings: DashboardSettings) -> st.App:
    """The pages, and signing in beside them."""
    service = PmaeClient(settings.service_url, timeout=_LOOK_SECONDS)
    sign_in = SignIn(service)

    @asynccontextmanager
    async def lifespan(_: st.App) -> AsyncIterator[None]:
        with service:
            yield

    return st.App(
        SCRIPT,
        lifespan=lifespan,
        routes=[*sign_in.routes, *page_routes(sign_in)],
        middleware=[Middleware(GuardMiddleware)],
    )
