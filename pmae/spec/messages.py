"""Wording of pydantic's validation errors for users, without patterns and Python's types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

_WORDS = {
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "string_type": "expected text, in quotes if it looks like a number",
    "string_unicode": "expected text in UTF-8",
    "extra_forbidden": "there is no such field here",
    "missing": "a value is required",
}
_OF_PATTERNS: dict[str, str] = {}
_OWN = "Value error, "


def with_message(pattern: str, message: str) -> str:
    """Return ``pattern``, and register the message of :func:`fault` for a mismatch."""
    _OF_PATTERNS[pattern] = message
    return pattern


NO_NUL = with_message(r"^[^\x00]*$", "text cannot hold the character U+0000")
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


def faults(error: ValidationError, *, depth: int | None = None) -> list[str]:
    """Return what is wrong with each field, once: ``field: what would be valid``.

    Args:
        error: of pydantic.
        depth: how many parts of a field's path to name; None: all, with dots between.
    """
    found = error.errors(include_url=False, include_input=False)
    named = (".".join(map(str, one["loc"][:depth])) for one in found)
    lines = (f"{n}: {fault(one)}" if n else fault(one) for n, one in zip(named, found, strict=True))
    return list(dict.fromkeys(lines))


def setting_faults(error: ValidationError, *, show_values: bool = False) -> list[str]:
    """Return what is wrong with each environment variable: ``PMAE_NAME: what would be valid``.

    Args:
        error: of a settings class whose variables begin with ``PMAE_``.
        show_values: repeat what was given, where no variable holds a secret.
    """
    return [
        f"PMAE_{str(one['loc'][0]).upper()}: {fault(one)}"
        + (f" (it is {one['input']!r})" if show_values else "")
        if one["loc"]
        else fault(one)
        for one in error.errors(include_url=False)
    ]
