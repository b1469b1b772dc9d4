"""The reader's browser, as the websocket of its page has introduced it."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from dashboard.web.origin import site_of


def introduced() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Headers and cookies with which the page's websocket was opened."""
    return st.context.headers, st.context.cookies


def session_token() -> str | None:
    """The token of the session in which the browser is signed in."""
    headers, cookies = introduced()
    site = site_of({name.lower(): value for name, value in headers.items()})
    return site.token(cookies) if site.host else None
