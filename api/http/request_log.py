"""Log one line for each request, with an id to find it by.

`asgi-correlation-id` does not suffice: it keeps the id in a variable of its own, from which it
would have to be copied to the log's fields and the request's state, where the audit reads it; and
it logs a warning for each id that it refuses, so that any client could fill the log.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.responses import API_PREFIX
from pmae.runtime.logging import annotate

LOGGER_NAME = "api.requests"
REQUEST_ID_HEADER = "X-Request-ID"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROBES = frozenset({f"{API_PREFIX}/livez", f"{API_PREFIX}/readyz", "/metrics"})
_logger = logging.getLogger(LOGGER_NAME)


class RequestLogMiddleware:
    """Logs method, path, status and duration of each request when its response has ended.

    ``observe`` gets scope, status and seconds of each request except event streams, whose duration
    has no meaning.

    The id comes from a proxy's ``X-Request-ID`` or is generated; it is in the response and in every
    line logged during the request. The query is not logged: it may hold a link's signature.
    """

    def __init__(self, app: ASGIApp, observe: Callable[[Scope, int, float], None]) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        # Not reset at the end, since errors are logged further out; the server runs each request
        # in a task, and so a context, of its own.
        annotate(request_id=request_id)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500  # of the response to an error that passes through here
        is_stream = False
        started = time.perf_counter()

        async def record_status(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = request_id
                is_stream = headers.get("content-type", "").startswith("text/event-stream")
            await send(message)

        try:
            await self._app(scope, receive, record_status)
        finally:
            seconds = time.perf_counter() - started
            _log_request(scope, status, seconds)
            if not is_stream:
                self._observe(scope, status, seconds)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    method, path = scope["method"], scope["path"]
    level = logging.WARNING if status >= 500 else logging.INFO
    if path in _PROBES:
        level = logging.DEBUG
    fields = {
        "method": method,
        "path": path,
        "status": status,
        "duration_ms": round(1000 * seconds, 1),
    }
    run_id = scope.get("path_params", {}).get("run_id")
    if run_id is not None:
        fields["run_id"] = run_id
    _logger.log(level, "%s %s: %d", method, path, status, extra={"fields": fields})
