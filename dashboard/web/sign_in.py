"""Signing in and out: ``/auth/sign-in`` and ``/auth/sign-out``.

Only this module sees the reader's key, in one request: the API creates a session, whose token goes
into the browser's cookie. No page and no log ever has the key.
"""

from __future__ import annotations

import http
from urllib.parse import parse_qsl, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dashboard.web.origin import Site, safe_next, site_of
from dashboard.web.sign_in_page import sign_in_page
from pmae.client import ApiError, InvalidKeyError, PmaeClient, ServiceUnreachableError
from pmae.errors import ClientError

SIGN_IN_PATH = "/auth/sign-in"
SIGN_OUT_PATH = "/auth/sign-out"
_MAX_FORM_BYTES = 16_384
_NO_COOKIE = (
    "The key is valid, but this browser did not store the session's cookie. Allow cookies of this "
    "site, then sign in again."
)


class SignIn:
    """Routes that create and end sign-in sessions of one service.

    Args:
        service: client without a key.
    """

    def __init__(self, service: PmaeClient) -> None:
        self._service = service

    @property
    def routes(self) -> list[Route]:
        """Return the routes, to be served beside the pages."""
        return [
            Route(SIGN_IN_PATH, self.show, methods=["GET"]),
            Route(SIGN_IN_PATH, self.sign_in, methods=["POST"]),
            Route(SIGN_OUT_PATH, self.sign_out, methods=["POST"]),
        ]

    async def needs_sign_in(self, connection: HTTPConnection) -> bool:
        """Return True if the service rejects the session; the page shows all other errors."""
        try:
            await self._look(_site(connection).token(connection.cookies))
        except ClientError as error:
            return _is_unknown(error)
        return False

    async def show(self, request: Request) -> Response:
        """Show the form; redirect readers who are signed in or need no key."""
        site, next_address = _site(request), safe_next(request.query_params.get("next", "/"))
        token = site.token(request.cookies)
        try:
            await self._look(token)
        except ClientError as error:
            if not _is_unknown(error):
                return sign_in_page(next_address, _sentence(error), status=503)
            fault = str(error) if token else None
            if token is None and "signed_in" in request.query_params:
                fault = _NO_COOKIE
            page = sign_in_page(next_address, fault)
            if token:
                site.forget(page)
            return page
        return _go(next_address)

    async def sign_in(self, request: Request) -> Response:
        """Create a session with the key from the form."""
        form = await _form(request)
        if form is None:
            return sign_in_page("/", "The form is longer than any key.", status=413)
        next_address, key = safe_next(form.get("next", "/")), form.get("key", "").strip()
        try:
            client = self._service.with_key(key)
            user_agent = request.headers.get("user-agent", "")[:2_000]
            made = await run_in_threadpool(client.create_session, user_agent=user_agent)
        except ClientError as error:
            return sign_in_page(next_address, _sentence(error), status=_status(error))
        response = _go(f"{SIGN_IN_PATH}?{urlencode({'next': next_address, 'signed_in': 1})}")
        _site(request).keep(response, made.token, made.expires_at)
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session at the service, and always delete the cookie."""
        site, response = _site(request), _go(SIGN_IN_PATH)
        token = site.token(request.cookies)
        try:
            if token:
                await run_in_threadpool(self._service.with_key(token).end_session)
        except ClientError as error:
            if not _is_unknown(error):
                message = (
                    "This browser is signed out, but the service could not be told, so the session "
                    f"itself goes on until it expires. {_sentence(error)}"
                )
                response = sign_in_page("/", message, status=503)
        site.forget(response)
        return response

    async def _look(self, token: str | None) -> None:
        """Request the reader's identity from the service.

        Raises:
            ClientError: the service does not answer, or rejects the token.
        """
        client = self._service.with_key(token) if token else self._service
        await run_in_threadpool(client.identity)


def _site(connection: HTTPConnection) -> Site:
    return site_of(connection.headers, connection.url.scheme)


def _go(address: str) -> Response:
    headers = {"Cache-Control": "no-store"}
    return RedirectResponse(address, status_code=http.HTTPStatus.SEE_OTHER, headers=headers)


async def _form(request: Request) -> dict[str, str] | None:
    """Parse the fields of a form; None if it is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_FORM_BYTES:
            return None
    return dict(parse_qsl(body.decode(errors="replace")))


def _is_unknown(error: ClientError) -> bool:
    if isinstance(error, ApiError):
        return error.problem.status == http.HTTPStatus.UNAUTHORIZED
    return isinstance(error, InvalidKeyError)


def _status(error: ClientError) -> int:
    if isinstance(error, InvalidKeyError):
        return http.HTTPStatus.UNPROCESSABLE_ENTITY
    if isinstance(error, ApiError) and error.problem.status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
        # A browser would ask for a password by itself if it were told 401.
        status = error.problem.status
        return http.HTTPStatus.FORBIDDEN if status == http.HTTPStatus.UNAUTHORIZED else status
    return http.HTTPStatus.SERVICE_UNAVAILABLE


def _sentence(error: ClientError) -> str:
    if isinstance(error, ServiceUnreachableError):
        return f"The service does not answer: {error}"
    return str(error)
