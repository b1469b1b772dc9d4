"""Errors of the API, and their form as ``application/problem+json`` (RFC 9457).

::

    PmaeError
    └── ApiError                     has a status, a stable code, and the bad fields
        ├── InvalidRequestError      422  an invalid body or parameter
        ├── NotFoundError            404  no run, checkpoint, file, component, preset of that name
        │   └── ReplacedError        404  a rolling checkpoint that a newer one has replaced
        ├── ConflictError            409  not possible in the current state of the run
        ├── RangeError               416  a byte range outside of the file
        ├── DamagedError             500  a file that differs from its recorded size or digest
        ├── BusyError                503  the queue is full; says when to try again
        ├── DatabaseAwayError        503  the database does not answer; says when to try again
        └── StorageFullError         507  the artifact disk is nearly full
"""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping, Sequence

from fastapi.responses import Response

from api.http.responses import PROBLEM_JSON
from pmae.errors import PmaeError
from pmae.schema import Problem, ProblemField

RETRY_AFTER_SECONDS = 5
"""Sent to clients while the database does not answer."""
_logger = logging.getLogger(__name__)


class ApiError(PmaeError):
    """Base class of errors that become a problem response.

    Args:
        message: one or two sentences for a person: what is wrong, and what would be valid.
        code: stable, for programs; default: the class's.
        fields: the bad fields, if the error is theirs.
        headers: added to the response.
    """

    status = http.HTTPStatus.INTERNAL_SERVER_ERROR
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fields: Sequence[ProblemField] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.code
        self.fields = list(fields)
        self.headers = dict(headers or {})


class InvalidRequestError(ApiError):
    """An invalid body or parameter; ``fields`` names each bad one."""

    status = http.HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid_request"


class NotFoundError(ApiError):
    """The named resource does not exist."""

    status = http.HTTPStatus.NOT_FOUND
    code = "not_found"


class ReplacedError(NotFoundError):
    """A rolling checkpoint that a newer one has replaced."""

    code = "checkpoint_replaced"


class ConflictError(ApiError):
    """Not possible in the current state of the run."""

    status = http.HTTPStatus.CONFLICT
    code = "conflict"


class RangeError(ApiError):
    """A byte range outside of the file."""

    status = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    code = "range_not_satisfiable"


class DamagedError(ApiError):
    """A file of the artifact store that differs from its recorded size or digest."""

    code = "artifact_damaged"


class BusyError(ApiError):
    """The queue is full."""

    status = http.HTTPStatus.SERVICE_UNAVAILABLE
    code = "busy"


class DatabaseAwayError(ApiError):
    """The database does not answer. The request may have taken effect nevertheless."""

    status = http.HTTPStatus.SERVICE_UNAVAILABLE
    code = "database_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "the database does not answer; try again later, a submission with the same "
            "Idempotency-Key",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )


class StorageFullError(ApiError):
    """The artifact disk is nearly full."""

    status = http.HTTPStatus.INSUFFICIENT_STORAGE
    code = "storage_full"


def problem_response(
    status: int,
    *,
    code: str,
    detail: str,
    fields: Sequence[ProblemField] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build a problem response."""
    problem = Problem(
        title=http.HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        errors=list(fields),
    )
    return Response(
        problem.model_dump_json(), status, headers=dict(headers or {}), media_type=PROBLEM_JSON
    )


def error_response(error: ApiError) -> Response:
    """Build the response to a request that raised ``error``."""
    if error.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        _logger.error("%s: %s", error.code, error)
    return problem_response(
        error.status,
        code=error.code,
        detail=str(error),
        fields=error.fields,
        headers=error.headers,
    )


def database_away_response(method: str, path: str, error: Exception) -> Response:
    """Build the response to a request that raised a :data:`~api.db.errors.DATABASE_AWAY`."""
    _logger.warning("%s %s failed, the database does not answer: %s", method, path, error)
    return error_response(DatabaseAwayError())
