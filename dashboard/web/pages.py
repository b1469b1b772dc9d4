"""HTML document of the pages: Streamlit's own, with the address of its server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from dashboard.web.sign_in import SIGN_IN_PATH, SignIn

_HEAD = "<head>"
_SERVER = '<script>window.__streamlit = {BACKEND_BASE_URL: location.origin + "/"}</script>'
"""Sets the server's address. Without it Streamlit's script first looks for its server below the
page's own path (/run/_stcore/health), and then at the root."""


class _PageName(Convertor[str]):
    """Path of a page: one segment, neither a file nor one of Streamlit's own."""

    regex = "[a-z][a-z0-9_-]*"

    def convert(self, value: str) -> str:
        """Parse the path."""
        return value

    def to_string(self, value: str) -> str:
        """Format the path."""
        return value


register_url_convertor("page", _PageName())


def page_routes(sign_in: SignIn) -> list[Route]:
    """Serve the document at the address of every page.

    A browser without a valid session is redirected to the sign-in page, with the requested address.
    This is a convenience: the page's script checks the session itself.
    """
    index = Path(st.__file__).parent / "static" / "index.html"
    document = index.read_text(encoding="utf-8").replace(_HEAD, _HEAD + _SERVER, 1)
    show = _shown(document, sign_in)
    return [Route("/", show), Route("/{page:page}", show)]


def _shown(document: str, sign_in: SignIn) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def show(request: Request) -> Response:
        is_browser = "text/html" in request.headers.get("accept", "")
        if is_browser and await sign_in.needs_sign_in(request):
            query = f"?{request.url.query}" if request.url.query else ""
            asked = urlencode({"next": request.url.path + query})
            headers = {"Cache-Control": "no-store"}
            return RedirectResponse(f"{SIGN_IN_PATH}?{asked}", status_code=303, headers=headers)
        return HTMLResponse(document, headers={"Cache-Control": "no-cache"})

    return show
