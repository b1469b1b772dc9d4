"""The opaque cursors of lists that come in pages.

A cursor names the last item of the page before by its value and number, and the list that it is of.
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

_MOST = 2**63


class PageParameters(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(frozen=True)

    limit: Limit = Field(default=DEFAULT_LIMIT, description="Most items in the answer.")
    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the page before.")


def write_cursor(list_digest: str, value: str | float | None, number: int) -> str:
    """The cursor after the item of this value and number.

    Args:
        list_digest: of what decides which items come in which order.
        value: by which they are ordered before their number; None: by number alone, or it has none.
        number: no other item of the list has it.
    """
    text = json.dumps([list_digest, value, number], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, list_digest: str) -> tuple[Any, int]:
    """Value and number of the item before; whether the value can be one, the list must tell.

    Raises:
        InvalidRequestError: it is not a cursor of the list.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        digest, value, number = json.loads(text)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise not_a_cursor(cursor) from None
    if digest != list_digest:
        raise _bad_cursor(
            "the cursor is of a list with other filters or in another order; valid is the "
            "next_cursor of a page of this one"
        )
    if not is_integer(number):
        raise not_a_cursor(cursor)
    return value, number


def is_integer(value: object) -> bool:
    """Whether SQL can compare it with a number."""
    return isinstance(value, int) and not isinstance(value, bool) and -_MOST <= value < _MOST


def not_a_cursor(cursor: str) -> InvalidRequestError:
    """What is answered to a text that no list has given."""
    return _bad_cursor(f"{cursor!r} is not a cursor; valid is the next_cursor of a page before")


def _bad_cursor(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, fields=[ProblemField(pointer="cursor", message=message)])
