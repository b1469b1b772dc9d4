"""``/runs``: list, read, change, cancel, resume and delete runs.

:mod:`api.runs.submit` submits them; :mod:`api.runs.details` serves their results.
"""

from __future__ import annotations

import http
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.orm import Session

from api.auth.principal import PrincipalDep
from api.auth.requirements import OWNER, VIEWER
from api.db import run_states
from api.http.parameters import RunId, refuse_unknown_parameters
from api.http.responses import problems
from api.runs import changes, listing, service, sources
from api.runs.idempotency import (
    IdempotencyHeader,
    Submission,
    accepted,
    claim_key,
    find_answer,
    keep_answer,
)
from api.runs.submit import KEY_REUSED, NO_SPACE, SUBMITTED
from api.services import Services, ServicesDep
from api.storage.space import refuse_when_full
from pmae.schema import Run, RunPage
from pmae.schema.run_query import RunQuery
from pmae.schema.runs import RunChange

router = APIRouter(prefix="/runs", tags=["runs"], dependencies=[Depends(refuse_unknown_parameters)])

_NO_RUN = problems(not_found="There is no such run.")


def _get(services: Services, run_id: str) -> Run:
    with services.sessions() as session:
        return _view(services, session, run_id)


def _view(services: Services, session: Session, run_id: str) -> Run:
    silence_seconds = services.settings.lease_seconds
    return service.get_run(session, run_id, worker_silence_seconds=silence_seconds)


@router.get(
    "",
    response_model=RunPage,
    summary="List runs",
    responses=problems(
        unprocessable_entity="A filter is invalid, or the cursor belongs to another list."
    ),
    dependencies=[VIEWER],
)
def list_runs(services: ServicesDep, query: Annotated[RunQuery, Query()]) -> RunPage:
    """List runs in pages, newest first or in another order; a run must match all filters.

    No run is skipped or repeated between pages while others are added. A run whose sort value
    changes meanwhile can move to an earlier or a later page.
    """
    with services.sessions() as session:
        return listing.list_runs(session, query)


@router.get(
    "/{run_id}", response_model=Run, summary="Get a run", responses=_NO_RUN, dependencies=[VIEWER]
)
def get_run(services: ServicesDep, run_id: RunId) -> Run:
    """Return a run in full: resolved spec, state, newest metrics and evaluations."""
    return _get(services, run_id)


@router.patch(
    "/{run_id}",
    response_model=Run,
    summary="Change a run",
    responses=_NO_RUN
    | problems(
        bad_request="The body is not JSON.",
        conflict="A new priority for a run that is not queued.",
        unprocessable_entity="The change is not valid.",
        request_entity_too_large="The body is too long.",
        unsupported_media_type="The body is not application/json.",
    ),
    dependencies=[OWNER],
)
def change_run(
    services: ServicesDep, principal: PrincipalDep, run_id: RunId, change: RunChange
) -> Run:
    """Change a run's name, tags, notes, pin or priority in the queue; never its spec.

    A merge patch (RFC 7396): omitted fields stay, and `null` resets a field to its default (the
    name cannot be reset). The history records who changed what.
    """
    with services.sessions.begin() as session:
        changes.change_run(session, run_id, change, actor=principal.actor)
    return _get(services, run_id)


@router.post(
    "/{run_id}/cancel",
    status_code=http.HTTPStatus.ACCEPTED,
    response_model=Run,
    summary="Cancel a run",
    responses=_NO_RUN | problems(conflict="The run has already ended."),
    dependencies=[OWNER],
)
def cancel_run(services: ServicesDep, principal: PrincipalDep, run_id: RunId) -> Run:
    """Cancel a run: a queued one at once, a running one as soon as its process has exited.

    Until then its state stays `running` and `cancel_requested` is true. Cancelling again is not an
    error.
    """
    with services.sessions.begin() as session:
        run_states.request_cancel(session, run_id, actor=principal.actor)
    return _get(services, run_id)


@router.post(
    "/{run_id}/resume",
    status_code=http.HTTPStatus.ACCEPTED,
    response_model=Run,
    summary="Resume a run",
    responses=_NO_RUN
    | NO_SPACE
    | SUBMITTED
    | problems(
        conflict="The run is neither failed nor cancelled, or the checkpoint that it evaluates or "
        "starts from is gone.",
        unprocessable_entity=KEY_REUSED,
    ),
    dependencies=[OWNER],
)
def resume_run(
    services: ServicesDep,
    principal: PrincipalDep,
    run_id: RunId,
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    """Queue a failed or cancelled run again; it continues from its newest valid checkpoint.

    The result is bit for bit that of an uninterrupted run. With an `Idempotency-Key`, a request
    that is sent again gets the first response and does not resume the run a second time.
    """
    submission = Submission.of(idempotency_key, owner=principal.name, request={"resume": run_id})
    with services.sessions() as session:
        answered = find_answer(session, submission)
        if answered is not None:
            return answered
        row = service.find_run(session, run_id)
    refuse_when_full(services.settings)
    with services.sessions.begin() as session:
        answered = claim_key(session, submission)
        if answered is not None:
            return answered
        spec, held = sources.hold_again(session, row, services.settings.runs_dir)
        run_states.resume(session, run_id, spec=spec, actor=principal.actor)
        if held:
            held.mark(run_id)
        run = _view(services, session, run_id)
        answer = run.model_dump(mode="json")
        keep_answer(session, submission, answer)
    services.wake_ups.send_soon(run.kind)
    return accepted(answer)


@router.delete(
    "/{run_id}",
    status_code=http.HTTPStatus.NO_CONTENT,
    response_model=None,
    summary="Delete a run",
    responses=_NO_RUN
    | problems(
        conflict="The run has not ended (cancel it first), is pinned, or another run that has not "
        "ended evaluates or starts from a checkpoint of it."
    ),
    dependencies=[OWNER],
)
def delete_run(services: ServicesDep, principal: PrincipalDep, run_id: RunId) -> None:
    """Delete a run that has ended: it is hidden at once, and its files are removed soon after.

    `GET /events` reports it (`delete`).
    """
    with services.sessions.begin() as session:
        run_states.mark_deleted(session, run_id, actor=principal.actor)
