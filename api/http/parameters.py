"""Parameters shared by several resources, and the refusal of unknown ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Path, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.http.errors import InvalidRequestError
from api.http.validation import MAX_FIELDS, unknown_name
from pmae.schema import ProblemField
from pmae.spec.messages import with_message

RunId = Annotated[
    str,
    Path(
        pattern=with_message(
            r"^[0-9a-f]{8,32}$", "expected the id of a run, 8 to 32 hexadecimal digits"
        ),
        description="The run's `id`: 8 to 32 hexadecimal digits.",
    ),
]
CheckpointId = Annotated[
    str,
    Path(
        pattern=with_message(
            r"^[0-9a-f]{8,32}-[0-9]{8,12}$",
            "expected the id of a checkpoint: its run's id, a dash, and the step in 8 digits",
        ),
        description="The checkpoint's `id`: the run's id, a dash, and the step in 8 digits.",
    ),
]
LARGEST_INTEGER = 2**53
"""The largest integer that JSON represents exactly in every parser."""


async def refuse_unknown_parameters(request: Request) -> None:
    """Dependency: refuse unknown query parameters, so that a misspelled one is not ignored.

    Raises:
        InvalidRequestError: the operation takes no parameter of that name.
    """
    if not request.query_params:
        return
    valid = query_names(request.scope["route"])
    unknown = [name for name in request.query_params if name not in valid]
    if unknown:
        fields = [
            ProblemField(pointer=name, message=unknown_name("parameter", name, valid))
            for name in unknown[:MAX_FIELDS]
        ]
        raise InvalidRequestError("; ".join(field.message for field in fields), fields=fields)


def query_names(route: APIRoute) -> list[str]:
    """List the query parameters that a route and its dependencies take.

    The OpenAPI document lists them too, but building it takes a third of a second, for which the
    first requests of a process would wait.
    """
    return list(dict.fromkeys(_query_names(route.dependant)))


def _query_names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (each.alias or name for name, each in kind.model_fields.items())
        else:
            yield field.alias
    for dependency in dependant.dependencies:
        yield from _query_names(dependency)
