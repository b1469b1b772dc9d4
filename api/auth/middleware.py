"""Middleware before every route: authentication, and the audit trail."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.audit.entries import Attempt
from api.auth.errors import TooManyRequestsError
from api.auth.identify import Access, address_of
from api.auth.requirements import Permissions
from api.db.errors import DATABASE_AWAY
from api.http.errors import ApiError, database_away_response, error_response
from api.http.middleware import READING_METHODS
from api.services import Services


class AccessMiddleware:
    """Refuses requests without a valid key, for existing and missing resources alike.

    Sets ``principal``, the sender, in the state of the request; routes declare the role that they
    need (:mod:`api.auth.requirements`). Runs before the body is read.
    """

    def __init__(self, app: ASGIApp, permissions: Permissions) -> None:
        self._app = app
        self._open_paths = permissions.open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        access: Access = scope["app"].state.services.access
        is_open = scope["path"] in self._open_paths
        try:
            principal = await access.identify(scope, is_open=is_open)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        except DATABASE_AWAY as error:
            if not is_open:
                answer = database_away_response(scope["method"], scope["path"], error)
                await answer(scope, receive, send)
                return
            principal = None  # health and readiness are open while the database is down
        scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


class AuditMiddleware:
    """Records each request that changes something, or would have if it had not been refused.

    A POST that only reads (open to viewers) is recorded only if it was refused. Requests above the
    rate limit are not recorded, for whatever reason they were refused, so that the trail cannot be
    flooded. The response does not wait for the record, and does not fail with it.
    """

    def __init__(self, app: ASGIApp, permissions: Permissions) -> None:
        self._app = app
        self._permissions = permissions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] in READING_METHODS:
            await self._app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        if not services.access.keys_required:
            await self._app(scope, receive, send)
            return
        status = 500  # of the response to an error that passes through here

        async def record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, record_status)
        finally:
            attempt = self._attempt(scope, status)
            if attempt is not None and _in_time(services.access, scope):
                services.audit_writer.add(attempt)

    def _attempt(self, scope: Scope, status: int) -> Attempt | None:
        """Build the record; None if there is nothing to record."""
        operation = self._permissions.find(scope["method"], scope["path"])
        only_read = operation is not None and not operation.needs.writes and status < 400
        if status == 429 or only_read:
            return None
        state = scope.get("state", {})
        return Attempt(
            principal=state.get("principal"),
            operation=operation.name if operation else "unknown",
            method=scope["method"],
            path=scope["path"],
            status=status,
            request_id=state.get("request_id", ""),
            address=address_of(scope),
        )


def _in_time(access: Access, scope: Scope) -> bool:
    """Return True if the sender is within its rate limit; count the request if not done yet."""
    principal = scope.get("state", {}).get("principal")
    caller = principal.name if principal else None
    try:
        access.count_write(scope, caller or address_of(scope))
    except TooManyRequestsError:
        return False
    return True
