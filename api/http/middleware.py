"""Middleware before every route: limits on bodies, and checks of hosts and origins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import problem_response
from api.settings import LOOPBACK_HOSTS

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing, by RFC 9110."""
_OWN_PAGES = frozenset({"same-origin", "none"})
"""Values of ``Sec-Fetch-Site`` for requests by a page of this service or by the user."""
_DRAINED_BODIES = 64
"""A body that is too long is read and discarded up to this multiple of the usual limit, so that its
sender sees the response instead of a reset connection."""
MAX_VALUES = 30_000
"""Maximum number of values in a body. The longest list of components has 20,000, other bodies less
than a tenth; each value may be an error to report while all other requests wait."""


class BodyLimitMiddleware:
    """Refuses a body longer than ``max_body_bytes`` with 413; buffers no more than that.

    A body with more than :data:`MAX_VALUES` values is refused with 422 before it is parsed. Values
    are counted by their commas, including those within strings.

    For a path that matches a pattern of ``larger`` its limit applies instead. The whole body is
    read before the request is passed on, with a ``Content-Length`` or in chunks: a request with a
    body that is too long has no effect.
    """

    def __init__(
        self, app: ASGIApp, max_body_bytes: int, larger: Mapping[re.Pattern[str], int]
    ) -> None:
        self._app = app
        self._usual = max_body_bytes
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        message = None if _awaits_permission(scope, limit) else await self._read(receive, limit)
        if message is None:
            response = problem_response(
                413,
                code="body_too_large",
                detail=f"the body is longer than {limit:,} bytes, the limit here",
                headers={"Connection": "close"},
            )
            await response(scope, receive, send)
            return
        if message.get("body", b"").count(b",") >= MAX_VALUES:
            detail = f"the body holds more than {MAX_VALUES:,} values, the limit"
            response = problem_response(422, code="too_many_values", detail=detail)
            await response(scope, receive, send)
            return
        pending = [message]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, send)

    def _limit(self, path: str) -> int:
        matching = (limit for pattern, limit in self._larger.items() if pattern.fullmatch(path))
        return max([self._usual, *matching])

    async def _read(self, receive: Receive, limit: int) -> Message | None:
        """Join the messages of the body into one; None if it is too long.

        If the client disconnects before the end, return the message that says so.
        """
        body = bytearray()
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message
            piece = message.get("body", b"")
            size += len(piece)
            if size <= limit:
                body += piece
            else:
                body.clear()
                if size > limit + self._usual * _DRAINED_BODIES:
                    return None
            if not message.get("more_body", False):
                return {"type": "http.request", "body": bytes(body)} if size <= limit else None


def _awaits_permission(scope: Scope, limit: int) -> bool:
    """Return True if the client announced too long a body and awaits permission to send it."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    too_long = length.isdecimal() and int(length) > limit
    return too_long and headers.get("expect", "").lower() == "100-continue"


class OriginMiddleware:
    """Refuses requests that a page of another site makes a browser send.

    Without keys, whoever can reach the port can write, and a browser on the same machine can do so
    for any page that it shows. So the Host header must be a name of this service (which stops DNS
    rebinding), and a write is refused if its Origin header names another site, or if the browser
    marks it as cross-site without naming an origin. Other programs send neither.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = LOOPBACK_HOSTS | frozenset(hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if _host_name(host) not in self._hosts:
            response = problem_response(
                400,
                code="host_not_allowed",
                detail=f"unknown host {host!r}; expected one of {', '.join(sorted(self._hosts))}, "
                "or a name in PMAE_ALLOWED_HOSTS",
            )
            await response(scope, receive, send)
            return
        origin = headers.get("origin")
        writes = scope["method"] not in READING_METHODS
        if origin is None:
            foreign = headers.get("sec-fetch-site", "none").lower() not in _OWN_PAGES
        else:
            foreign = not self._may_write(origin.lower(), scope, host)
        if writes and foreign:
            response = problem_response(
                403,
                code="origin_not_allowed",
                detail=f"pages of {origin or 'other sites'} may not write here; expected an origin "
                "in PMAE_ALLOWED_ORIGINS",
            )
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may_write(self, origin: str, scope: Scope, host: str) -> bool:
        return origin in self._origins or origin == f"{scope['scheme']}://{host}"


def _host_name(host: str) -> str:
    """Return the name in a Host header, without its port; empty if it is invalid."""
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return ""
    if parts.netloc != host or "@" in host:
        return ""
    return f"[{name}]" if ":" in name else name
