"""``/runs``: listing, and the life of a run.

How one begins: :mod:`api.runs.submit`; what one did: :mod:`api.runs.details`.
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
from api.runs.filters import RunFilters
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
        unprocessable_entity="A filter is not valid, or the cursor is another list's."
    ),
    dependencies=[VIEWER],
)
def list_runs(services: ServicesDep, filters: Annotated[RunFilters, Query()]) -> RunPage:
    """The newest runs first, or in another order, in pages; filters are combined by "and".

    Pages join without gap or double while runs are added. A run whose value changes meanwhile can
    move to a page that was read, or is yet to come.
    """
    with services.sessions() as session:
        return listing.list_runs(session, filters)


@router.get(
    "/{run_id}", response_model=Run, summary="Get a run", responses=_NO_RUN, dependencies=[VIEWER]
)
def get_run(services: ServicesDep, run_id: RunId) -> Run:
    """A run in full: its resolved spec, state, newest figures and evaluations."""
    return _get(services, run_id)


@router.patch(
    "/{run_id}",
    response_model=Run,
    summary="Change a run",
    responses=_NO_RUN
    | problems(
        bad_request="The body is not JSON.",
        conflict="Another priority for a run that is not queued.",
        unprocessable_entity="The change is not valid.",
        request_entity_too_large="The body is too long.",
        unsupported_media_type="The body is not application/json.",
    ),
    dependencies=[OWNER],
)
def change_run(
    services: ServicesDep, principal: PrincipalDep, run_id: RunId, change: RunChange
) -> Run:
    """Change name, tags, notes, pin or the priority in the queue; never the spec.

    A merge patch (RFC 7396): what is left out stays, `null` takes a field back to its default (a
    run keeps a name, though). The history says who changed what.
    """
    with services.sessions.begin() as session:
        changes.change_run(session, run_id, change, actor=principal.actor)
    return _get(services, run_id)


@router.post(
    "/{run_id}/cancel",
    status_code=http.HTTPStatus.ACCEPTED,
    response_model=Run,
    summary="Cancel a run",
    responses=_NO_RUN | problems(conflict="The run has ended already."),
    dependencies=[OWNER],
)
def cancel_run(services: ServicesDep, principal: PrincipalDep, run_id: RunId) -> Run:
    """Stop a run: a queued one at once, a running one as soon as its process is gone.

    Until then its state stays `running` and `cancel_requested` is true. Asking twice is no error.
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
        conflict="Neither failed nor cancelled, or what it evaluates or starts from is gone.",
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
    """Queue a failed or cancelled run again. It goes on from its newest valid checkpoint.

    It ends with the same bits as if nothing had happened. With an `Idempotency-Key` a request that
    is sent again is answered as the first was, and does not resume the run a second time.
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
    services.doorbell.ring_soon(run.kind)
    return accepted(answer)


@router.delete(
    "/{run_id}",
    status_code=http.HTTPStatus.NO_CONTENT,
    response_model=None,
    summary="Delete a run",
    responses=_NO_RUN
    | problems(
        conflict="Not ended (cancel it first), pinned, or a run that has not ended evaluates or "
        "starts from a checkpoint of it."
    ),
    dependencies=[OWNER],
)
def delete_run(services: ServicesDep, principal: PrincipalDep, run_id: RunId) -> None:
    """Delete a run that has ended: nobody sees it from now on, and its files go within moments.

    `GET /events` tells of it (`delete`).
    """
    with services.sessions.begin() as session:
        run_states.mark_deleted(session, run_id, actor=principal.actor)
