"""Read long JSON bodies in a thread, so that the event loop can serve other requests.

A thread alone does not help, since a parser holds the interpreter lock until it is done. So a fast
parser is used, and :mod:`api.http.middleware` limits the number of values in a body.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool

from api.http.validation import BodyError

_M = TypeVar("_M", bound=BaseModel)


async def read_long_body(request: Request, model: type[_M]) -> _M | None:
    """Read the body of a request; None if there is none.

    Args:
        request: its length has been checked.
        model: of the body.

    Raises:
        BodyError: it is not JSON, or not a valid ``model``.
    """
    body = await request.body()
    content_type = request.headers.get("content-type", "")
    return await run_in_threadpool(_read, body, content_type, model)


def _read(body: bytes, content_type: str, model: type[_M]) -> _M | None:
    if not body:
        return None
    if not _is_json(content_type):
        fault = {"type": "model_type", "loc": ("body",), "msg": "is not JSON", "input": None}
        raise BodyError([fault], body=body, model=model)
    value = _parse(body, model)
    if value is None:
        return None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        located = [{**entry, "loc": ("body", *entry["loc"])} for entry in errors]
        raise BodyError(located, body=value, model=model) from error


def _is_json(content_type: str) -> bool:
    kind, _, form = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (form == "json" or form.endswith("+json"))


def _parse(body: bytes, model: type[BaseModel]) -> Any:
    """Parse ten times as fast as :mod:`json`, which is tried when the fast parser refuses."""
    try:
        return from_json(body)
    except ValueError:
        pass  # nested deeply, a lone surrogate, or not JSON: decided below
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        fault = {
            "type": "json_invalid",
            "loc": ("body", error.pos),
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": error.msg},
        }
        raise BodyError([fault], body=error.doc, model=model) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, "There was an error parsing the body") from error
