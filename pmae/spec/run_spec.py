"""What a run does, of either kind."""

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
        custom_error_message="not a kind of run; valid for `kind` are pretrain, evaluate",
    ),
]
"""What a run of either kind does."""

RUN_SPEC: TypeAdapter[RunSpec] = TypeAdapter(RunSpec)


def load_spec(source: str, *, version: int | None = None) -> RunSpec:
    """Read a spec from a JSON or YAML file, or take the preset of that name.

    Args:
        source: the file or the name.
        version: of the format that a pretraining's spec has if it names none; default: the present.

    Raises:
        SpecError: there is neither, or the file does not hold a spec.
    """
    from pmae.presets import get_preset, is_preset

    path = Path(source)
    if is_preset(source) or not path.is_file():
        fields = get_preset(source).spec.model_dump(mode="json", exclude_unset=True)
    else:
        fields = read_spec_file(path)
    if version is not None and fields.get("kind", "pretrain") == "pretrain":
        fields = {"version": version, **fields}
    return parse_spec(fields, source)


def read_spec_file(path: Path) -> dict[str, Any]:
    """What the author of a JSON or YAML file wrote, not yet validated.

    Raises:
        SpecError: it cannot be read, or holds no object.
    """
    if path.is_dir():
        raise SpecError(f"{path} is a folder; a file that holds a spec is needed")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}") from error
    return read_spec_text(text, str(path))


def read_spec_text(text: str, what: str) -> dict[str, Any]:
    """The same of a text; ``what`` says where it comes from.

    Raises:
        SpecError: it holds no object.
    """
    fields = read_yaml(text, what)
    if not isinstance(fields, dict):
        raise SpecError(f"{what} does not hold a spec: an object with fields is needed")
    return fields


def parse_spec(fields: Mapping[str, Any], what: str) -> RunSpec:
    """A spec from its fields; ``what`` says where they come from.

    Raises:
        SpecError: it is not valid; names each bad field.
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
        told = "; ".join(f"{_place(entry['loc'], fields)}: {fault(entry)}" for entry in found)
        raise SpecError(f"{what} does not hold a spec: {told}") from error


def _place(location: tuple[str | int, ...], fields: Any) -> str:
    """A field's path without pydantic's names for the members of a union, which no spec has."""
    place: list[str] = []
    for index, part in enumerate(location):
        try:
            fields = fields[part]
        except (LookupError, TypeError):
            if index < len(location) - 1:
                continue
        place.append(str(part))
    return ".".join(place)
