"""What a run does, of either kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from pmae.errors import SpecError
from pmae.spec.evaluate import EvaluateSpec
from pmae.spec.experiment import ExperimentSpec


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


def load_spec(source: str) -> RunSpec:
    """Read a spec from a JSON or YAML file, or take the preset of that name.

    Raises:
        SpecError: there is neither, or the file does not hold a spec.
    """
    from pmae.presets import PRESETS, get_preset

    path = Path(source)
    if source in PRESETS or not path.is_file():
        return get_preset(source).spec
    try:
        return RUN_SPEC.validate_python(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise SpecError(f"{source} does not hold a spec: {error}") from error
