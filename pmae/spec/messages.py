"""Pydantic's findings in words for people: what is valid, without patterns and Python's types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "tuple_type": "a list is needed here",
    "list_type": "a list is needed here",
    "dict_type": "an object is needed here",
    "model_type": "an object is needed here",
    "model_attributes_type": "an object is needed here",
    "string_type": "text is needed here, in quotes where it looks like a number",
    "extra_forbidden": "there is no such field here",
    "missing": "a value is required",
}
_OF_PATTERNS: dict[str, str] = {}
_OWN = "Value error, "


def told_as(pattern: str, words: str) -> str:
    """A pattern of pydantic's, and what :func:`fault` says of text that does not match it."""
    _OF_PATTERNS[pattern] = words
    return pattern


NO_NUL = told_as(r"^[^\x00]*$", "text cannot hold the character U+0000")
"""No database takes it."""


def fault(error: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says, as the part of a sentence that follows a colon."""
    kind, message = error["type"], str(error["msg"])
    if kind == "string_pattern_mismatch" and error["ctx"]["pattern"] in _OF_PATTERNS:
        return _OF_PATTERNS[error["ctx"]["pattern"]]
    if kind in _WORDS:
        return _WORDS[kind]
    if kind in ("too_short", "too_long"):
        bound, word = ("min_length", "least") if kind == "too_short" else ("max_length", "most")
        count = error["ctx"][bound]
        return f"valid are at {word} {count:,} value{'s' if count != 1 else ''}"
    if message.startswith(_OWN):
        return message.removeprefix(_OWN)  # this project's own words, as they are
    return message[:1].lower() + message[1:]
