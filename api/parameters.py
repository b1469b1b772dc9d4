"""Parameters that several resources take, and the refusal of those that none takes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import StringConstraints

from api.errors import InvalidRequestError
from api.openapi import Document
from api.validation import MOST_FIELDS, unknown_name
from pmae.faults import NO_NUL, told_as
from pmae.schema import ProblemField

RunId = Annotated[
    str,
    Path(
        pattern=told_as(r"^[0-9a-f]{8,32}$", "a run's id is 8 to 32 hexadecimal digits"),
        description="The run's `id`: 8 to 32 hexadecimal digits.",
    ),
]
CheckpointId = Annotated[
    str,
    Path(
        pattern=told_as(
            r"^[0-9a-f]{8,32}-[0-9]{8,12}$",
            "a checkpoint's id is its run's, a dash, and the step in 8 digits",
        ),
        description="The checkpoint's `id`: the run's id, a dash, and the step in 8 digits.",
    ),
]
LARGEST_INTEGER = 2**53
"""The largest that JSON carries without loss."""
FilterText = Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)]
"""Text to compare with: no database takes the character U+0000."""


async def refuse_unknown_parameters(request: Request) -> None:
    """A dependency: a misspelled query parameter must not be taken for an absent one.

    Raises:
        InvalidRequestError: the operation takes no parameter of that name.
    """
    document: Document = request.app.state.document
    valid = document.query_names(request.scope["route"].name)
    unknown = [name for name in request.query_params if name not in valid]
    if unknown:
        fields = [
            ProblemField(pointer=name, message=unknown_name("parameter", name, valid))
            for name in unknown[:MOST_FIELDS]
        ]
        raise InvalidRequestError("; ".join(field.message for field in fields), fields=fields)
