"""Convert pydantic's errors to a list of bad fields, with the values expected for each."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pmae.errors import SpecError
from pmae.schema import ProblemField
from pmae.spec.messages import fault

Location = tuple[str | int, ...]
MAX_FIELDS = 20
"""Maximum number of bad fields reported; a body can hold thousands."""


class BodyError(RequestValidationError):
    """A body that the route itself has read and refused; FastAPI does not know its model.

    Attributes:
        model: of the body.
    """

    def __init__(
        self, errors: Sequence[Mapping[str, Any]], *, body: object, model: type[BaseModel]
    ) -> None:
        super().__init__(errors, body=body)
        self.model = model


def pointer(location: Iterable[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) to a location in a body."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in escaped)


def body_fields(
    errors: Sequence[ErrorDetails], body: object, model: type[BaseModel] | None
) -> list[ProblemField]:
    """List the bad fields of a body.

    Args:
        errors: of pydantic, with locations from the body's root.
        body: the JSON value that was sent.
        model: of the body, for the names of valid fields; None if unknown.
    """
    messages: dict[Location, list[str]] = {}
    for error in errors:
        location = _place(error["loc"], body, missing=error["type"] == "missing")
        if location not in messages and len(messages) == MAX_FIELDS:
            continue
        message = _message(error, location, model)
        known = messages.setdefault(location, [])
        if message not in known:
            known.append(message)
    return [
        ProblemField(pointer=pointer(location), message="; or: ".join(texts))
        for location, texts in messages.items()
    ]


def spec_error_field(error: SpecError) -> ProblemField:
    """Return the bad field that a :class:`~pmae.errors.SpecError` names."""
    named = ".".join(map(str, error.field)) + ": "
    return ProblemField(pointer=pointer(error.field), message=str(error).removeprefix(named))


def parameter_fields(errors: Sequence[Mapping[str, Any]], part: str) -> list[ProblemField]:
    """List the bad parameters of one part of a request: ``path``, ``query`` or ``header``.

    A parameter with several values is listed once, whichever of them is bad.
    """
    messages: dict[str, list[str]] = {}
    for error in errors:
        if error["loc"][0] == part:
            known = messages.setdefault(str(error["loc"][1]), [])
            message = fault(error)
            if message not in known:
                known.append(message)
    return [
        ProblemField(pointer=name, message="; ".join(texts))
        for name, texts in list(messages.items())[:MAX_FIELDS]
    ]


def request_fields(
    errors: Sequence[Mapping[str, Any]], body: object, model: type[BaseModel] | None
) -> list[ProblemField]:
    """List the bad parameters and body fields of a request that FastAPI refused.

    Args:
        errors: of FastAPI.
        body: the JSON value that was sent.
        model: of the body, if there is one.
    """
    fields = [field for part in ("query", "header") for field in parameter_fields(errors, part)]
    in_body = [
        cast("ErrorDetails", {**entry, "loc": tuple(entry["loc"][1:])})
        for entry in errors
        if entry["loc"][0] == "body"
    ]
    return fields + body_fields(in_body, body, model)


def unknown_name(what: str, name: str, valid: Sequence[str]) -> str:
    """Build the message for an unknown name."""
    close = difflib.get_close_matches(name, valid, n=1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    expected = f"expected one of {', '.join(valid)}" if valid else "there is none here"
    return f"unknown {what} {name!r};{hint} {expected}"


def text_with_nul(value: object, location: Location = ()) -> Location | None:
    """Locate the character U+0000, which no database stores, in a JSON value; None if absent."""
    if isinstance(value, str):
        return location if "\x00" in value else None
    children: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, Mapping):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for name, child in children:
        found = text_with_nul(child, (*location, name))
        if found is not None:
            return found
    return None


def _place(location: Location, body: object, *, missing: bool) -> Location:
    """Remove pydantic's names of union members, which are not in the body, from a location."""
    place: list[str | int] = []
    value: Any = body
    for index, part in enumerate(location):
        if _holds(value, part):
            value = value[part]
        elif not (missing and index == len(location) - 1):
            continue
        place.append(part)
    return tuple(place)


def _holds(value: Any, part: str | int) -> bool:
    """Return True if a JSON value has a member of this name or index."""
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _message(error: ErrorDetails, location: Location, model: type[BaseModel] | None) -> str:
    if error["type"] == "extra_forbidden":
        names = _field_names(model, location[:-1], error["loc"])
        return unknown_name("field", str(location[-1]), names)
    return fault(error)


def _field_names(model: type[BaseModel] | None, location: Location, tags: Location) -> list[str]:
    """List the fields of the part of ``model`` at ``location``.

    ``tags`` holds pydantic's names of the union members that parts of the body were parsed as.
    """
    found = [model] if model is not None else []
    for part in location:
        if isinstance(part, str):
            fields = [m.model_fields[part] for m in found if part in m.model_fields]
            members = [member for field in fields for member in models_in(field.annotation)]
            found = [member for member in members if _is_tagged(member, tags)] or members
    return list(dict.fromkeys(name for member in found for name in member.model_fields))


def _is_tagged(model: type[BaseModel], tags: Location) -> bool:
    """Return True if a field of the model has one of the tags as its only value."""
    return any(
        get_origin(field.annotation) is Literal and get_args(field.annotation)[0] in tags
        for field in model.model_fields.values()
    )


def models_in(annotation: object) -> list[type[BaseModel]]:
    """List the models in a field's annotation, including those in unions and containers."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = get_origin(annotation)
    if origin is Annotated:
        return models_in(get_args(annotation)[0])
    if origin in (Union, types.UnionType, tuple, list):
        return [model for argument in get_args(annotation) for model in models_in(argument)]
    return []
