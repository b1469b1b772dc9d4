"""Wording of pydantic's validation errors for users, without patterns and Python's types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "string_type": "expected text, in quotes if it looks like a number",
    "extra_forbidden": "there is no such field here",
    "missing": "a value is required",
}
_OF_PATTERNS: dict[str, str] = {}
_OWN = "Value error, "


def told_as(pattern: str, words: str) -> str:
    """Register the message of :func:`fault` for text that does not match a pattern."""
    _OF_PATTERNS[pattern] = words
    return pattern


NO_NUL = told_as(r"^[^\x00]*$", "text cannot hold the character U+0000")
"""PostgreSQL cannot store that character."""


def fault(error: Mapping[str, Any]) -> str:
    """Word one of pydantic's errors, as a phrase to follow ``field:``."""
    kind, message = error["type"], str(error["msg"])
    if kind == "string_pattern_mismatch" and error["ctx"]["pattern"] in _OF_PATTERNS:
        return _OF_PATTERNS[error["ctx"]["pattern"]]
    if kind in _WORDS:
        return _WORDS[kind]
    if kind in ("too_short", "too_long"):
        bound, word = ("min_length", "least") if kind == "too_short" else ("max_length", "most")
        count = error["ctx"][bound]
        return f"expected at {word} {count:,} value{'s' if count != 1 else ''}"
    if message.startswith(_OWN):
        return message.removeprefix(_OWN)
    return message[:1].lower() + message[1:]
