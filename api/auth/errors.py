"""Errors of authentication and authorization.

::

    ApiError
    ├── UnauthorizedError     401: no valid key
    ├── ForbiddenError        403: a valid key without the permission, or an invalid link
    └── TooManyRequestsError  429: the rate limit is exceeded
"""

from __future__ import annotations

import http
import math

from api.http.errors import ApiError


class UnauthorizedError(ApiError):
    """The request has no valid key."""

    status = http.HTTPStatus.UNAUTHORIZED
    code = "key_invalid"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        challenge = 'Bearer realm="pmae"'
        if code != "key_required":
            challenge += ', error="invalid_token"'
        super().__init__(message, code=code, headers={"WWW-Authenticate": challenge})


class ForbiddenError(ApiError):
    """The caller may not do this."""

    status = http.HTTPStatus.FORBIDDEN
    code = "forbidden"


class TooManyRequestsError(ApiError):
    """The rate limit is exceeded; the next request is accepted after ``retry_after_seconds``."""

    status = http.HTTPStatus.TOO_MANY_REQUESTS
    code = "too_many_requests"

    def __init__(self, message: str, *, code: str, retry_after_seconds: float) -> None:
        seconds = max(1, math.ceil(retry_after_seconds))
        super().__init__(
            f"{message}; try again in {seconds} s",
            code=code,
            headers={"Retry-After": str(seconds)},
        )
