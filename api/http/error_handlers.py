"""Convert every failure of a request to ``application/problem+json``.

Errors of Starlette and pydantic (404, 405, bad JSON, bad fields) take the same form as those of
:mod:`api.http.errors`. An internal error gives status 500; its traceback is logged.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from api.db.errors import DATABASE_AWAY, DbError, RunNotFoundError, TransitionRefusedError
from api.http.errors import ApiError, database_away_response, error_response, problem_response
from api.http.openapi import Document
from api.http.validation import BodyError, models_in, parameter_fields, request_fields
from pmae.schema import ProblemField

_MAX_ERRORS = 1_000
"""Maximum number of errors reported for a request; those of its parameters come first."""
_logger = logging.getLogger(__name__)


def install_error_handlers(app: FastAPI) -> None:
    """Install handlers that convert every failure of ``app`` to a problem document."""
    app.exception_handler(ApiError)(_api_error)
    app.exception_handler(DbError)(_db_error)
    for away in DATABASE_AWAY:
        app.exception_handler(away)(_database_away)
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_exception)
    app.exception_handler(Exception)(_unexpected)


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


def _validation_error(request: Request, error: RequestValidationError) -> Response:
    """Report bad fields. Not a coroutine, so that it runs in a thread: there can be thousands."""
    errors = error.errors()[:_MAX_ERRORS]
    parts = {str(entry["loc"][0]) for entry in errors}
    if "path" in parts:
        fields = parameter_fields(errors, "path")
        return _fields_response(404, "not_found", "there is no such path", fields)
    if "body" in parts and error.body is not None:
        content_type = request.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            detail = f"the body is {media_type or 'of no stated type'}; expected application/json"
            return problem_response(415, code="unsupported_media_type", detail=detail)
    if any(entry["type"] == "json_invalid" for entry in errors):
        entry = errors[0]
        detail = f"the body is not JSON: {entry['ctx']['error']} at character {entry['loc'][1]}"
        return problem_response(400, code="invalid_json", detail=detail)
    fields = request_fields(errors, error.body, _model(request, error))
    return _fields_response(422, "invalid_request", "the request is invalid", fields)


def _model(request: Request, error: RequestValidationError) -> type[BaseModel] | None:
    """Find the model of the body of a request, if there is one."""
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
        detail = f"there is no path {request.url.path}"
    elif status == http.HTTPStatus.METHOD_NOT_ALLOWED:
        document: Document = request.app.state.document
        headers["Allow"] = ", ".join(document.methods(request.url.path))
        detail = f"{request.method} is not allowed here; expected one of {headers['Allow']}"
    return problem_response(status, code=status.name.lower(), detail=detail, headers=headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(
        500,
        code="internal_error",
        detail="internal error; see the log of the API",
    )
