"""Specs of runs of either kind, read from files, text or fields."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from pmae.errors import SpecError
from pmae.spec.changes import check_names, read_yaml
from pmae.spec.evaluate import EvaluateSpec
from pmae.spec.experiment import ExperimentSpec
from pmae.spec.messages import fault


def _kind(value: Any) -> str | None:
    """A spec that names no kind is a pretraining's."""
    kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
    if kind is None:
        return "pretrain"
    return kind if isinstance(kind, str) else None


RunSpec = Annotated[
    Annotated[ExperimentSpec, Tag("pretrain")] | Annotated[EvaluateSpec, Tag("evaluate")],
    Discriminator(
        _kind,
        custom_error_type="unknown_kind",
        custom_error_message="not a kind of run; expected one of pretrain, evaluate for `kind`",
    ),
]
"""Spec of a pretraining or of an evaluation; pydantic chooses by ``kind``."""

RUN_SPEC: TypeAdapter[RunSpec] = TypeAdapter(RunSpec)


def read_spec_file(path: Path) -> dict[str, Any]:
    """Read the fields of a spec from a JSON or YAML file, without validating them.

    Raises:
        SpecError: the file cannot be read, or holds no object.
    """
    if path.is_dir():
        raise SpecError(f"{path} is a folder; expected a file that holds a spec")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}") from error
    return read_spec_text(text, str(path))


def read_spec_text(text: str, what: str) -> dict[str, Any]:
    """Read the fields of a spec from JSON or YAML text; ``what`` names it in errors.

    Raises:
        SpecError: the text holds no object.
    """
    fields = read_yaml(text, what)
    if not isinstance(fields, dict):
        raise SpecError(f"{what} does not hold a spec; expected an object with fields")
    return fields


def parse_spec(fields: Mapping[str, Any], what: str) -> RunSpec:
    """Validate the fields of a spec; ``what`` names their source in errors.

    Raises:
        SpecError: the spec is invalid; names each bad field.
    """
    model = EvaluateSpec if fields.get("kind") == "evaluate" else ExperimentSpec
    try:
        check_names(fields, model)
    except SpecError as error:
        raise SpecError(f"{what} does not hold a spec: {error}", field=error.field) from error
    try:
        return RUN_SPEC.validate_python(fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        faults = "; ".join(f"{_place(entry['loc'], fields)}: {fault(entry)}" for entry in found)
        raise SpecError(f"{what} does not hold a spec: {faults}") from error


def _place(location: tuple[str | int, ...], fields: Any) -> str:
    """A field's dotted path, without the names that pydantic gives to members of a union."""
    place: list[str] = []
    for index, part in enumerate(location):
        try:
            fields = fields[part]
        except (LookupError, TypeError):
            if index < len(location) - 1:
                continue
        place.append(str(part))
    return ".".join(place)
