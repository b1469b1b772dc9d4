"""Errors of the API, and their form as ``application/problem+json`` (RFC 9457).

::

    PmaeError
    └── ApiError                     has a status, a stable code, and the bad fields
        ├── InvalidRequestError      422  a body or a parameter that cannot be used
        ├── NotFoundError            404  no run, checkpoint, file, component, preset of that name
        │   └── ReplacedError        404  a rolling checkpoint that a newer one has replaced
        ├── ConflictError            409  not possible in the state that the run is in
        ├── RangeError               416  a byte range outside of the file
        ├── DamagedError             500  a file that is not what was recorded of it
        ├── BusyError                503  too much is waiting; says when to try again
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
"""Told to who meets a database that is away."""
_logger = logging.getLogger(__name__)


class ApiError(PmaeError):
    """A request that gets an error for an answer.

    Args:
        message: one or two sentences for a person: what was wrong, and what would be right.
        code: stable, for programs; default: the class's.
        fields: the bad fields, if single ones are to blame.
        headers: sent along.
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
    """A body or a parameter that cannot be used; ``fields`` names each bad one."""

    status = http.HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid_request"


class NotFoundError(ApiError):
    """Nothing of that name."""

    status = http.HTTPStatus.NOT_FOUND
    code = "not_found"


class ReplacedError(NotFoundError):
    """A rolling checkpoint that a newer one has replaced."""

    code = "checkpoint_replaced"


class ConflictError(ApiError):
    """Not possible in the state that the run is in."""

    status = http.HTTPStatus.CONFLICT
    code = "conflict"


class RangeError(ApiError):
    """A byte range that lies outside of the file."""

    status = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    code = "range_not_satisfiable"


class DamagedError(ApiError):
    """A file of the artifact store that is not what was recorded of it."""

    code = "artifact_damaged"


class BusyError(ApiError):
    """Too much is waiting already."""

    status = http.HTTPStatus.SERVICE_UNAVAILABLE
    code = "busy"


class DatabaseAwayError(ApiError):
    """The database does not answer. What was asked for may have been done all the same."""

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
    """An answer that says what went wrong."""
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
    """What a request that met ``error`` is answered with."""
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
    """What a request is answered with that met one of :data:`~api.db.errors.DATABASE_AWAY`."""
    _logger.warning("%s %s met a database that does not answer: %s", method, path, error)
    return error_response(DatabaseAwayError())
