"""How a request is refused for who sends it.

::

    ApiError
    ├── UnauthorizedError     401: no key, or none that is valid
    ├── ForbiddenError        403: a valid key that may not do this, or a link that does not hold
    └── TooManyRequestsError  429: too fast
"""

from __future__ import annotations

import http
import math

from api.http.errors import ApiError


class UnauthorizedError(ApiError):
    """There is no valid key."""

    status = http.HTTPStatus.UNAUTHORIZED
    code = "key_invalid"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        challenge = 'Bearer realm="pmae"'
        if code != "key_required":
            challenge += ', error="invalid_token"'
        super().__init__(message, code=code, headers={"WWW-Authenticate": challenge})


class ForbiddenError(ApiError):
    """Whoever this is may not do it."""

    status = http.HTTPStatus.FORBIDDEN
    code = "forbidden"


class TooManyRequestsError(ApiError):
    """More than the limit; ``retry_after_seconds`` until the next one is taken."""

    status = http.HTTPStatus.TOO_MANY_REQUESTS
    code = "too_many_requests"

    def __init__(self, message: str, *, code: str, retry_after_seconds: float) -> None:
        seconds = max(1, math.ceil(retry_after_seconds))
        super().__init__(
            f"{message}; try again in {seconds} s",
            code=code,
            headers={"Retry-After": str(seconds)},
        )
