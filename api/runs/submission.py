"""Parse a request's body into a spec, and resolve it if it is a pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from api.http.errors import InvalidRequestError
from api.http.validation import body_fields, pointer, spec_error_field, text_with_nul, unknown_name
from pmae.errors import SpecError
from pmae.presets import get_preset
from pmae.runs.layout import stored_checkpoint_name
from pmae.schema import RUN_KINDS, ProblemField
from pmae.spec import EvaluateSpec, ExperimentSpec, RunSpec, resolve
from pmae.spec.changes import merge_patch
from pmae.spec.sizes import check_submission

Body = Mapping[str, Any]
_MODELS: Mapping[object, type[ExperimentSpec | EvaluateSpec]] = {
    "pretrain": ExperimentSpec,
    "evaluate": EvaluateSpec,
}


def read_spec(body: Body | None, preset: str | None) -> RunSpec:
    """Read the spec of a request; resolve it unless it evaluates a checkpoint.

    Args:
        body: fields of a spec; with a preset, the fields to change.
        preset: name of the preset to start from.

    Raises:
        InvalidRequestError: it cannot be run; names each bad field.
    """
    fields = dict(body or {})
    if preset is not None:
        fields = merge_patch(_preset_fields(preset), fields)
    elif not fields:
        raise InvalidRequestError(
            "there is no spec; expected one as the body, or the name of a preset as ?preset=",
            fields=[ProblemField(pointer="", message="expected a spec, at least its dataset")],
        )
    nul = text_with_nul(fields)
    if nul is not None:
        field = ProblemField(pointer=pointer(nul), message="text cannot hold the character U+0000")
        raise invalid_spec([field])
    model = _model(fields.get("kind", "pretrain"))
    try:
        spec = model.model_validate(fields)
        if isinstance(spec, EvaluateSpec):
            check_submission(spec)
            return spec
        spec = resolve(spec)
        check_submission(spec)
        spec = _with_named_checkpoint(spec)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise invalid_spec(body_fields(errors, fields, model)) from error
    except SpecError as error:
        raise invalid_spec([spec_error_field(error)]) from error
    return spec


def _model(kind: object) -> type[ExperimentSpec | EvaluateSpec]:
    model = _MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        message = unknown_name("kind", str(kind), list(RUN_KINDS))
        raise invalid_spec([ProblemField(pointer="/kind", message=message)])
    return model


def _with_named_checkpoint(spec: ExperimentSpec) -> ExperimentSpec:
    """Replace ``init_from`` by the checkpoint's full name; paths on the server are refused.

    Raises:
        SpecError: ``init_from`` is not the name of a checkpoint of this service.
    """
    if spec.init_from is None:
        return spec
    name = stored_checkpoint_name(spec.init_from)
    if name is None:
        raise SpecError(
            f"init_from: {spec.init_from!r} is not the name of a checkpoint; expected a "
            "checkpoint's id or <run id>/<checkpoint name>, for example 3f9c0a1b2c4d-00000640 or "
            "3f9c0a1b2c4d/step-00000640",
            field=("init_from",),
        )
    return spec.model_copy(update={"init_from": name})


def _preset_fields(name: str) -> dict[str, Any]:
    """Return the fields that the preset sets, so that defaults follow the changed fields."""
    try:
        preset = get_preset(name)
    except SpecError as error:
        field = ProblemField(pointer="preset", message=str(error))
        raise InvalidRequestError(str(error), fields=[field]) from error
    return preset.spec.model_dump(mode="json", exclude_unset=True)


def invalid_spec(fields: list[ProblemField]) -> InvalidRequestError:
    """Build the error for a spec with invalid fields."""
    listed = "; ".join(f"{field.pointer}: {field.message}" for field in fields)
    return InvalidRequestError(
        f"the spec cannot be run: {listed}", code="invalid_spec", fields=fields
    )
