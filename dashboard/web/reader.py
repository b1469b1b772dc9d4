"""The reader's browser, as identified by its page's websocket."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from dashboard.web.origin import site_of


def introduced() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return headers and cookies with which the page's websocket was opened."""
    return st.context.headers, st.context.cookies


def session_token() -> str | None:
    """Return the token of the browser's sign-in session."""
    headers, cookies = introduced()
    site = site_of({name.lower(): value for name, value in headers.items()})
    return site.token(cookies) if site.host else None
