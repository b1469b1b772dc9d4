"""Routes of evaluations: submitted below a checkpoint, listed below a run."""

from __future__ import annotations

import http
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Response

from api.auth.principal import PrincipalDep
from api.auth.requirements import SUBMITTER, VIEWER
from api.evaluations.service import list_evaluation_runs
from api.http.errors import InvalidRequestError
from api.http.pagination import PageParameters
from api.http.parameters import CheckpointId, RunId, refuse_unknown_parameters
from api.http.responses import problems
from api.http.validation import pointer, spec_error_field, text_with_nul
from api.runs.idempotency import IdempotencyHeader, Submission
from api.runs.submission import invalid_spec
from api.runs.submit import NO_SPACE, SUBMITTED, queue_run
from api.services import ServicesDep
from pmae.errors import SpecError
from pmae.schema import ProblemField, Run
from pmae.schema.evaluations import EvaluationRunPage
from pmae.spec import EvaluateSpec, EvaluationRequest
from pmae.spec.sizes import check_submission

router = APIRouter(tags=["evaluations"], dependencies=[Depends(refuse_unknown_parameters)])


@router.post(
    "/checkpoints/{checkpoint_id}/evaluations",
    status_code=http.HTTPStatus.ACCEPTED,
    response_model=Run,
    summary="Evaluate a checkpoint",
    responses=problems(
        not_found="There is no such checkpoint, or it was removed.",
        conflict="It is the rolling checkpoint, which the next one replaces.",
        unprocessable_entity="An evaluation is invalid (`errors` names each bad field), or the "
        "key was used with another request (`idempotency_key_reused`).",
    )
    | NO_SPACE
    | SUBMITTED,
    dependencies=[SUBMITTER],
)
def evaluate_checkpoint(
    services: ServicesDep,
    principal: PrincipalDep,
    checkpoint_id: CheckpointId,
    request: Annotated[
        EvaluationRequest,
        Body(
            openapi_examples={
                "knn": {
                    "summary": "k-NN on the mean of the patch tokens",
                    "value": {"evaluations": [{"protocol": "knn", "features": "mean"}]},
                },
                "layers": {
                    "summary": "A linear probe after every block, three seeds",
                    "value": {
                        "evaluations": [{"protocol": "linear", "layers": "all", "num_seeds": 3}]
                    },
                },
            }
        ),
    ],
    priority: Annotated[
        int, Query(ge=-1000, le=1000, description="Runs of a higher priority start first.")
    ] = 0,
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    """Queue a run of the kind `evaluate`, which measures a kept checkpoint without changing it.

    It has its own state, log and events, and can be cancelled, resumed and repeated like any run;
    `parent_id` names the run that wrote the checkpoint.
    """
    nul = text_with_nul(request.model_dump(mode="json"))
    if nul is not None:
        message = "text cannot hold the character U+0000"
        fields = [ProblemField(pointer=pointer(nul), message=message)]
        raise InvalidRequestError(f"{fields[0].pointer}: {message}", fields=fields)
    values = request.model_dump(mode="json", exclude_unset=True)
    spec = EvaluateSpec.model_validate({**values, "checkpoint": checkpoint_id})
    try:
        check_submission(spec)
    except SpecError as error:
        raise invalid_spec([spec_error_field(error)]) from error
    submission = Submission.of(
        idempotency_key,
        owner=principal.name,
        request={"body": {**values, "checkpoint": checkpoint_id}, "priority": priority},
    )
    return queue_run(
        services,
        principal,
        spec,
        preset=None,
        priority=priority,
        submission=submission,
    )


@router.get(
    "/runs/{run_id}/evaluations",
    response_model=EvaluationRunPage,
    summary="List evaluations",
    responses=problems(
        not_found="There is no such run.",
        unprocessable_entity="A parameter is invalid, or the cursor belongs to another list.",
    ),
    dependencies=[VIEWER],
)
def list_run_evaluations(
    services: ServicesDep, run_id: RunId, page: Annotated[PageParameters, Query()]
) -> EvaluationRunPage:
    """List the runs that evaluate checkpoints of this run, with results, in pages, newest first.

    No run is skipped or repeated between pages while others are added. Results that the run itself
    measured are in its `evaluations`.
    """
    with services.sessions() as session:
        return list_evaluation_runs(session, run_id, page)
