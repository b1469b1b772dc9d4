"""What stands before every route: which requests are answered at all, and how much is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import problem_response
from api.settings import LOOPBACK_HOSTS

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""What changes nothing, by HTTP's own rules."""
_OWN_PAGES = frozenset({"same-origin", "none"})
"""``Sec-Fetch-Site`` of what a page of this service, or the reader's own hand, has asked for."""
_DRAINED_BODIES = 64
"""Of a body that is too long this many times the usual limit is read and thrown away, so that its
sender gets to see the answer rather than a connection that was reset."""


MOST_VALUES = 30_000
"""In a body. The longest selection of components that a request may name has 20,000, no other body
a tenth of that; and each value may be a fault that is looked at while all other requests wait."""


class BodyLimitMiddleware:
    """Answers 413 to a body that is longer than ``max_body_bytes``, and holds no more than that.

    One that holds more than :data:`MOST_VALUES` values is answered with 422 before it is read as
    JSON. Values are counted by their commas: those within texts count too.

    Where a path matches a pattern of ``larger``, the limit that this names holds instead. A body is
    read in full before the request is passed on, whether it has a ``Content-Length`` or comes in
    chunks: nothing is done for a request whose body turns out to be too long.
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
                detail=f"the body is longer than the {limit:,} bytes that are read",
                headers={"Connection": "close"},
            )
            await response(scope, receive, send)
            return
        if message.get("body", b"").count(b",") >= MOST_VALUES:
            detail = f"the body holds more than {MOST_VALUES:,} values, which no request needs"
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
        """The body as one message, however many it came in; None if it is too long.

        Where the client went away before its end: the message that says so.
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
    """Whether the client announced too much and waits to hear if it may send that."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    too_long = length.isdecimal() and int(length) > limit
    return too_long and headers.get("expect", "").lower() == "100-continue"


class OriginMiddleware:
    """Refuses requests that a page of another site made a browser send.

    Without keys, what can reach the port can write. A browser on the same machine can, for any page
    that it shows; so the Host header must be a name of this service (which keeps away a foreign
    name that resolves to this machine), and a write whose Origin header is another site's is
    refused, or that a browser says is one without naming its origin. Programs send neither.
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
                detail=f"this service does not answer to the host {host!r}; valid are "
                f"{', '.join(sorted(self._hosts))}, and the names in PMAE_ALLOWED_HOSTS",
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
                detail=f"pages of {origin or 'other sites'} may not write here; "
                "PMAE_ALLOWED_ORIGINS names those that may",
            )
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may_write(self, origin: str, scope: Scope, host: str) -> bool:
        return origin in self._origins or origin == f"{scope['scheme']}://{host}"


def _host_name(host: str) -> str:
    """The name in a Host header, without its port; empty if it is none."""
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return ""
    if parts.netloc != host or "@" in host:
        return ""
    return f"[{name}]" if ":" in name else name
