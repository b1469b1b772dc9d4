"""Opaque cursors of paginated lists.

A cursor holds the value and number of the last item of a page, and a digest of the list.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.http.errors import InvalidRequestError
from pmae.schema import ProblemField
from pmae.schema.run_query import DEFAULT_LIMIT, Cursor, Limit

_MAX_INTEGER = 2**63


class PageParameters(BaseModel):
    """Query parameters that select a page of a list."""

    model_config = ConfigDict(frozen=True)

    limit: Limit = Field(
        default=DEFAULT_LIMIT, description="Maximum number of items in the response."
    )
    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the page before.")


def write_cursor(list_digest: str, value: str | float | None, number: int) -> str:
    """Make the cursor after the item with this value and number.

    Args:
        list_digest: digest of the list's filters and order.
        value: sort value of the item; None if it has none, or the list is ordered by number.
        number: unique in the list.
    """
    text = json.dumps([list_digest, value, number], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, list_digest: str) -> tuple[Any, int]:
    """Read value and number from a cursor; the caller must check the type of the value.

    Raises:
        InvalidRequestError: it is not a cursor of this list.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        digest, value, number = json.loads(text)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise not_a_cursor(cursor) from None
    if digest != list_digest:
        raise _bad_cursor(
            "the cursor belongs to a list with other filters or another order; expected the "
            "next_cursor of a page of this list"
        )
    if not is_integer(number):
        raise not_a_cursor(cursor)
    return value, number


def is_integer(value: object) -> bool:
    """Return True if the value is an integer that SQL can compare."""
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and -_MAX_INTEGER <= value < _MAX_INTEGER
    )


def not_a_cursor(cursor: str) -> InvalidRequestError:
    """Build the error for a text that is not a cursor."""
    return _bad_cursor(f"{cursor!r} is not a cursor; expected the next_cursor of an earlier page")


def _bad_cursor(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, fields=[ProblemField(pointer="cursor", message=message)])
