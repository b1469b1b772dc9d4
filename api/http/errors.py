"""Errors of the API, and how every failure becomes ``application/problem+json`` (RFC 9457).

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

What Starlette and pydantic raise (404, 405, bad JSON, bad fields) takes the same form. A fault of
the service itself is answered with 500 and no traceback; the traceback stands in the log.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from api.db.errors import DATABASE_AWAY, DbError, RunNotFoundError, TransitionRefusedError
from api.http.openapi import PROBLEM_JSON, Document
from api.http.validation import BodyError, models_in, parameter_fields, request_fields
from pmae.errors import PmaeError
from pmae.schema import Problem, ProblemField

_MOST_ERRORS = 1_000
"""Looked at of a request that has more: those of its parameters come first."""
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


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of ``app`` a problem document."""
    app.exception_handler(ApiError)(_api_error)
    app.exception_handler(DbError)(_db_error)
    for away in DATABASE_AWAY:
        app.exception_handler(away)(_database_away)
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_exception)
    app.exception_handler(Exception)(_unexpected)


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


async def _api_error(_request: Request, error: ApiError) -> Response:
    return error_response(error)


async def _db_error(request: Request, error: DbError) -> Response:
    if isinstance(error, RunNotFoundError):
        return problem_response(404, code="run_not_found", detail=str(error))
    if isinstance(error, TransitionRefusedError):
        return problem_response(409, code="transition_refused", detail=str(error))
    return await _unexpected(request, error)


async def _database_away(request: Request, error: Exception) -> Response:
    return database_away_response(request.method, request.url.path, error)


def database_away_response(method: str, path: str, error: Exception) -> Response:
    """What a request is answered with that met one of :data:`~api.db.errors.DATABASE_AWAY`."""
    _logger.warning("%s %s met a database that does not answer: %s", method, path, error)
    return error_response(DatabaseAwayError())


def _validation_error(request: Request, error: RequestValidationError) -> Response:
    """Not a coroutine, so that it runs in a thread: there can be thousands of faults."""
    errors = error.errors()[:_MOST_ERRORS]
    parts = {str(entry["loc"][0]) for entry in errors}
    if "path" in parts:
        fields = parameter_fields(errors, "path")
        return _fields_response(404, "not_found", "nothing has this address", fields)
    if "body" in parts and error.body is not None:
        content_type = request.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            detail = f"the body is {media_type or 'of no stated type'}; valid is application/json"
            return problem_response(415, code="unsupported_media_type", detail=detail)
    if any(entry["type"] == "json_invalid" for entry in errors):
        entry = errors[0]
        detail = f"the body is not JSON: {entry['ctx']['error']} at character {entry['loc'][1]}"
        return problem_response(400, code="invalid_json", detail=detail)
    fields = request_fields(errors, error.body, _model(request, error))
    return _fields_response(422, "invalid_request", "the request is not valid", fields)


def _model(request: Request, error: RequestValidationError) -> type[BaseModel] | None:
    """What the body of a request should have been."""
    if isinstance(error, BodyError):
        return error.model
    route = request.scope.get("route")
    field = route.body_field if isinstance(route, APIRoute) else None
    models = models_in(field.field_info.annotation) if field is not None else []
    return next(iter(models), None)


def _fields_response(status: int, code: str, what: str, fields: Sequence[ProblemField]) -> Response:
    listed = "; ".join(f"{field.pointer or 'body'}: {field.message}" for field in fields)
    return problem_response(status, code=code, detail=f"{what}: {listed}", fields=fields)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    status = http.HTTPStatus(error.status_code)
    detail, headers = str(error.detail), dict(error.headers or {})
    if status == http.HTTPStatus.NOT_FOUND:
        detail = f"nothing has the address {request.url.path}"
    elif status == http.HTTPStatus.METHOD_NOT_ALLOWED:
        document: Document = request.app.state.document
        headers["Allow"] = ", ".join(document.methods(request.url.path))
        detail = f"{request.method} is not possible here; valid are {headers['Allow']}"
    return problem_response(status, code=status.name.lower(), detail=detail, headers=headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(
        500,
        code="internal_error",
        detail="the service made a mistake; its log says which",
    )
