"""Submit runs: a new spec, or another run's spec again."""

from __future__ import annotations

import http
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response

from api.auth.principal import Principal, PrincipalDep
from api.auth.requirements import SUBMITTER
from api.db import run_states
from api.http.errors import NotFoundError
from api.http.parameters import RunId, refuse_unknown_parameters
from api.http.responses import Responses, problems
from api.runs import service, sources
from api.runs.idempotency import (
    REPLAYED_HEADER,
    IdempotencyHeader,
    Submission,
    accepted,
    claim_key,
    find_answer,
    keep_answer,
)
from api.runs.previews import preview_response
from api.runs.submission import read_spec
from api.runs.views import run_view
from api.services import Services, ServicesDep
from api.storage.space import refuse_when_full
from pmae.presets import SMALL_PRESETS, get_preset
from pmae.schema import Run
from pmae.schema.runs import SubmitPreview
from pmae.spec import EvaluateSpec, RunSpec

router = APIRouter(prefix="/runs", tags=["runs"], dependencies=[Depends(refuse_unknown_parameters)])

NO_SPACE = problems(insufficient_storage="The artifact disk is nearly full.")
KEY_REUSED = "The `Idempotency-Key` was used with another request (`idempotency_key_reused`)."
_PREVIEW: Responses = {
    200: {"model": SubmitPreview, "description": "With `validate_only`: what would be queued."}
}
SUBMITTED: Responses = {
    202: {
        "headers": {
            "Location": {"schema": {"type": "string"}},
            REPLAYED_HEADER: {
                "schema": {"const": "true"},
                "description": "An earlier request with the same key queued the run.",
            },
        }
    },
}
_SPEC_BODY = {
    "requestBody": {
        "description": "The spec. With `?preset=`, the fields to change in the preset's.",
        "required": False,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"$ref": "#/components/schemas/ExperimentSpec"},
                        {"$ref": "#/components/schemas/EvaluateSpec"},
                    ]
                },
                "examples": {
                    preset.name: {
                        "summary": preset.summary,
                        "value": preset.spec.model_dump(mode="json", exclude_unset=True),
                    }
                    for preset in SMALL_PRESETS
                }
                | {
                    "evaluate": {
                        "summary": "Evaluate a checkpoint of another run.",
                        "value": {
                            "kind": "evaluate",
                            "checkpoint": "3f9c0a1b2c4d/step-00000640",
                            "evaluations": [{"protocol": "knn", "features": "mean"}],
                        },
                    }
                },
            }
        },
    }
}


@router.post(
    "",
    status_code=http.HTTPStatus.ACCEPTED,
    response_model=Run,
    summary="Submit a run",
    responses=problems(
        bad_request="The body is not JSON.",
        conflict="The spec names a rolling checkpoint, which the next one replaces.",
        unprocessable_entity="The spec is invalid (`errors` names each field), or the key "
        "was used with another request (`idempotency_key_reused`).",
        request_entity_too_large="The body is too long.",
        unsupported_media_type="The body is not application/json.",
    )
    | NO_SPACE
    | _PREVIEW
    | SUBMITTED,
    openapi_extra=_SPEC_BODY,
    dependencies=[SUBMITTER],
)
def submit_run(
    services: ServicesDep,
    principal: PrincipalDep,
    body: Annotated[dict[str, Any] | None, Body()] = None,
    preset: Annotated[
        str | None,
        Query(
            description="Start from this preset; the body's fields replace its own. The name of a "
            "preset with parameters is URL-encoded: `paper%3Fdataset%3Dcifar10`.",
            examples=["quickstart", "paper?dataset=cifar10&method=pmae&ratio=0.2"],
        ),
    ] = None,
    priority: Annotated[
        int, Query(ge=-1000, le=1000, description="Runs of a higher priority start first.")
    ] = 0,
    validate_only: Annotated[
        bool,
        Query(description="Queue nothing; return the resolved spec, an estimate and warnings."),
    ] = False,
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    """Validate a spec, fill in its defaults, and queue a pretraining or an evaluation.

    The response holds the resolved spec; `Location` is the URL of the run. A checkpoint that the
    spec names (`init_from`, `checkpoint`) is kept until the run has ended. With a preset, objects
    are merged field by field, other values are replaced, and `null` resets a field of the preset
    to its default (RFC 7396).

    With an `Idempotency-Key` a request whose response was lost can be sent again: it queues no
    second run. With `validate_only` nothing is queued, and the key is not used.
    """
    submission = Submission.of(
        None if validate_only else idempotency_key,
        owner=principal.name,
        request={"body": body or {}, "preset": preset, "priority": priority},
    )
    with services.sessions() as session:
        answered = find_answer(session, submission)
    if answered is not None:
        return answered
    spec = read_spec(body, preset)
    if preset is not None:
        preset = get_preset(preset).name  # with its default parameters written out
    try:
        if validate_only:
            return preview_response(services.sessions, spec, services.settings)
        return queue_run(
            services,
            principal,
            spec,
            preset=preset,
            priority=priority,
            submission=submission,
        )
    except NotFoundError as error:
        raise sources.checkpoint_field(error, spec) from error


def queue_run(
    services: Services,
    principal: Principal,
    spec: RunSpec,
    *,
    preset: str | None,
    priority: int,
    rerun_of: str | None = None,
    submission: Submission | None = None,
) -> Response:
    """Queue a run, or return the response to an earlier request with the same key.

    The checkpoint that the run needs is held until the run has ended.

    Raises:
        ApiError: the disk is full, or the checkpoint is missing or unsuitable.
    """
    with services.sessions.begin() as session:
        answered = claim_key(session, submission)
        if answered is not None:
            return answered
        refuse_when_full(services.settings)
        spec, held = sources.prepare(session, spec, services.settings.runs_dir)
        row = run_states.submit(
            session,
            spec=spec,
            parent=held.parent if held and isinstance(spec, EvaluateSpec) else None,
            preset=preset,
            priority=priority,
            rerun_of=rerun_of,
            owner=principal.name,
            actor=principal.actor,
        )
        if held:
            held.mark(row.id)
        answer = run_view(row, []).model_dump(mode="json")
        keep_answer(session, submission, answer)
    services.wake_ups.send_soon(spec.kind)
    return accepted(answer)


@router.post(
    "/{run_id}/rerun",
    status_code=http.HTTPStatus.ACCEPTED,
    response_model=Run,
    summary="Repeat a run",
    responses=problems(not_found="There is no such run.")
    | NO_SPACE
    | SUBMITTED
    | problems(
        conflict="The checkpoint that it evaluates or starts from is gone.",
        unprocessable_entity=KEY_REUSED,
    ),
    dependencies=[SUBMITTER],
)
def rerun_run(
    services: ServicesDep,
    principal: PrincipalDep,
    run_id: RunId,
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    """Submit a run's resolved spec again, as a new run from its first step.

    On the same hardware and versions the result is bit for bit the same. `rerun_of` names the
    original. Anybody's run can be repeated; the new one belongs to the caller. With an
    `Idempotency-Key`, a request that is sent again queues no second run.
    """
    submission = Submission.of(idempotency_key, owner=principal.name, request={"rerun": run_id})
    with services.sessions() as session:
        # Before the run is looked up: the stored response holds even if the run was deleted since.
        answered = find_answer(session, submission)
        if answered is not None:
            return answered
        row = service.find_run(session, run_id)
    try:
        return queue_run(
            services,
            principal,
            sources.stored_spec(row),
            preset=row.preset,
            priority=row.priority,
            rerun_of=row.id,
            submission=submission,
        )
    except NotFoundError as error:
        raise sources.checkpoint_gone(error) from error
