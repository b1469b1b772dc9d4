"""Unvalidated changes of a spec, such as ``masking.ratio=0.3`` on top of a preset or a file."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from pmae.errors import SpecError

_MAX_SUGGESTIONS = 5


class _Loader(yaml.SafeLoader):
    """YAML with JSON's scalars: ``1e-3`` is a number, and a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in found if entry[0] != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(text: str, what: str) -> Any:
    """Parse YAML or JSON into a value that JSON can hold.

    Args:
        text: to parse.
        what: name of the text, for error messages.

    Raises:
        SpecError: the text is neither, or JSON cannot hold its value.
    """
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
        json.dumps(value)
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise SpecError(f"{what} is neither YAML nor JSON: {_reason(error)}") from error
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise SpecError(
            f"{what} has a number that is not finite, which JSON cannot hold"
        ) from error
    return value


def _reason(error: Exception) -> str:
    """Describe a parse error and its place, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(str(error).split())


def check_names(fields: Mapping[str, Any], model: type[BaseModel]) -> None:
    """Check that every field is one of ``model``; fields within lists are left to pydantic.

    Raises:
        SpecError: an unknown field; suggests the nearest.
    """
    _check(fields, model, (), model)


def merge_patch(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a JSON merge patch (RFC 7396): objects are merged, null removes a field."""
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = merge_patch(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def read_changes(assignments: Sequence[str], model: type[BaseModel]) -> dict[str, Any]:
    """Turn ``path=value`` assignments into a patch; a later assignment to a field wins.

    Args:
        assignments: dotted paths of fields, and their values as YAML; ``null`` resets a field to
            its default.
        model: that the patch applies to.

    Raises:
        SpecError: a malformed assignment, or an unknown field; suggests the nearest.
    """
    patch: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path = path.strip()
        if not (equals and path):
            raise SpecError(
                f"{assignment!r} is not an assignment; expected path=value, for example "
                f"{next(field_paths(model))}=..."
            )
        if not text.strip():
            raise SpecError(
                f"{path} has no value; expected {path}=null for its default, or {path}='\"\"' for "
                "empty text"
            )
        value = read_yaml(text, f"the value of {path}")
        parts = path.split(".")
        if not parts[0]:
            raise SpecError(f"{path!r} is not a field's path; expected for example masking.ratio")
        change: Any = value
        for part in reversed(parts):
            change = {part: change}
        check_names(change, model)
        patch = _overlaid(patch, change, model)
    return patch


def field_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted paths of a model's fields; a field that holds others follows them."""
    for name, field in model.model_fields.items():
        part = _part(field.annotation)
        if part is not None:
            yield from field_paths(part, f"{prefix}{name}.")
        yield f"{prefix}{name}"


def _overlaid(
    patch: Mapping[str, Any], change: Mapping[str, Any], model: type[BaseModel] | None
) -> dict[str, Any]:
    """Combine two patches of a ``model``.

    Unlike in a merge, null is kept, since it has yet to remove a field. If a part was reset to its
    defaults before one of its fields is changed, all its other fields become null.
    """
    both = dict(patch)
    for name, value in change.items():
        if isinstance(value, Mapping):
            field = model.model_fields.get(name) if model else None
            part = _part(field.annotation) if field else None
            below = both.get(name, {})
            if below is None and part is not None:
                below = dict.fromkeys(part.model_fields)
            value = _overlaid(below if isinstance(below, Mapping) else {}, value, part)
        both[name] = value
    return both


def _check(
    patch: Mapping[str, Any],
    model: type[BaseModel],
    above: tuple[str, ...],
    whole: type[BaseModel],
) -> None:
    """Check that every name in the patch is a field of ``model``, a part of ``whole``."""
    for name, value in patch.items():
        place = (*above, name)
        field = model.model_fields.get(name)
        if field is None:
            raise SpecError(_unknown(place, model, whole), field=place)
        if not isinstance(value, Mapping):
            continue
        part = _part(field.annotation)
        if part is not None:
            _check(value, part, place, whole)
        elif value:
            path = ".".join(place)
            raise SpecError(f"{path} has no fields of its own; expected {path}=value", field=place)


def _unknown(place: tuple[str, ...], model: type[BaseModel], whole: type[BaseModel]) -> str:
    """Describe an unknown field: suggest that name elsewhere, and similar names beside it."""
    above, name = ".".join(place[:-1]), place[-1]
    elsewhere = [path for path in field_paths(whole) if path.rpartition(".")[2] == name]
    alike = difflib.get_close_matches(name, model.model_fields, n=_MAX_SUGGESTIONS, cutoff=0.5)
    nearest = [*elsewhere, *(f"{above}.{field}" if above else field for field in alike)]
    hint = f"the nearest are {', '.join(nearest[:_MAX_SUGGESTIONS])}; " if nearest else ""
    valid = f"valid{f' in {above}' if above else ''}: {', '.join(model.model_fields)}"
    return f"there is no field {'.'.join(place)}; {hint}{valid}"


def _part(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, if it holds exactly one; a list is a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType):
        found = [part for part in map(_part, get_args(annotation)) if part is not None]
        return found[0] if len(found) == 1 else None
    return None
