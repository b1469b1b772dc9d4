"""Guard before every route: refuses requests of other sites' pages, and adds headers."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.web.origin import site_of

_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_PAGES = frozenset({"same-origin", "none"})
"""Values of ``Sec-Fetch-Site`` for requests of this site's pages, or made by the reader."""
_POLICY_VIOLATION = 1008
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'self'",
}


class GuardMiddleware:
    """Middleware that refuses cross-site requests, which would carry the session's cookie.

    It checks requests that may change something, and all websockets: ``SameSite`` alone admits
    pages of other ports of this host, and Streamlit admits those of ``localhost``. Programs other
    than browsers send neither ``Origin`` nor ``Sec-Fetch-Site``, and have no cookies.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "websocket":
            if _is_foreign(scope):
                await receive()
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
                return
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["method"] not in _READING_METHODS and _is_foreign(scope):
            refusal = PlainTextResponse(_refusal(Headers(scope=scope)), status_code=403)
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _is_foreign(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "none").lower() not in _OWN_PAGES:
        return True
    return origin is not None and not site_of(headers, scope["scheme"]).owns(origin)


def _refusal(headers: Headers) -> str:
    return (
        f"Pages of {headers.get('origin', 'other sites')} may not send this to "
        f"{headers.get('host')}. If that is this dashboard's own address, the proxy in front of it "
        "has to pass on the Host header as the browser sent it.\n"
    )
