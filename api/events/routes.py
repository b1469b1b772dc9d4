"""``/events`` and ``/runs/{run_id}/events``: the same stream of events, of all runs or of one."""

from __future__ import annotations

import http
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from api.auth.principal import PrincipalDep
from api.auth.requirements import VIEWER
from api.db.tables import RunEventRow, RunRow
from api.events.listener import Listener
from api.events.order import Place, place_of_now
from api.events.streams import EventStream
from api.http.errors import InvalidRequestError
from api.http.parameters import LARGEST_INTEGER, RunId, refuse_unknown_parameters
from api.http.responses import problems
from api.http.validation import unknown_name
from api.runs.service import run_not_found
from api.services import Services, ServicesDep
from pmae.schema import TERMINAL_STATES, ProblemField
from pmae.schema.runs import EVENT_TYPES

router = APIRouter(tags=["runs"], dependencies=[Depends(refuse_unknown_parameters)])


@router.get(
    "/events",
    response_class=StreamingResponse,
    response_model=None,
    summary="Follow all runs",
    responses=problems(unprocessable_entity="There is no such type.")
    | {200: {"description": "Server-sent events until the client or the service goes."}},
    dependencies=[VIEWER],
)
async def follow_service(
    services: ServicesDep,
    principal: PrincipalDep,
    types: Annotated[
        str | None,
        Query(
            description="Only messages of these types, with commas between: "
            f"{', '.join(EVENT_TYPES)}. Default: all.",
            examples=["state,evaluation"],
            max_length=400,
        ),
    ] = None,
    last_event_id: Annotated[
        int | None,
        Header(
            ge=0,
            le=LARGEST_INTEGER,
            description="`id` of the last message that was seen; all later ones are sent. Without "
            "it: what happens from now on.",
        ),
    ] = None,
) -> Response:
    """Follow the events of all runs, as server-sent events.

    `event` is the type of what happened and `data` the entry as in the run's history, with `run_id`
    and `run`, the run as the list shows it now. Of a run that was deleted nothing is told but that
    (`delete`): `run` is null then, and `data.data` has the run's number and name.

    Messages come in the order of their `id`s, and none is left out when a client goes on with
    `Last-Event-ID`. Messages of the type `progress` carry a run alone, and no `id`: they come when
    its stage, its epoch or the per cent of its stage changes, and first of every running run.
    A block that is only an `id` is the place where a stream without `Last-Event-ID` has begun.
    Comments keep a silent connection open. The stream ends soon after the key with which it was
    opened was revoked or has expired.
    """
    chosen = _chosen(types)
    start = Place(last_event_id or 0, frozenset())
    if last_event_id is None:
        start = await services.streams.in_thread(_place_of_now, services)
    listener = Listener(
        key_id=principal.key_id,
        session_id=principal.session_id,
        types=chosen,
        last_id=start.last_id,
        known=start.known,
        named=last_event_id is not None,
    )
    return EventStream(services.streams, listener)


@router.get(
    "/runs/{run_id}/events",
    response_class=StreamingResponse,
    response_model=None,
    summary="Follow a run",
    responses=problems(not_found="There is no such run.")
    | {
        200: {"description": "Server-sent events until the run has ended."},
        204: {"description": "The run has ended, and everything was told: do not connect again."},
    },
    dependencies=[VIEWER],
)
async def follow_run(
    services: ServicesDep,
    principal: PrincipalDep,
    run_id: RunId,
    last_event_id: Annotated[
        int | None,
        Header(
            ge=0,
            le=LARGEST_INTEGER,
            description="`id` of the last message that was seen; only later ones are sent.",
        ),
    ] = None,
) -> Response:
    """Follow a run: its history as server-sent events, then its new events, live.

    It begins at the run's start, or after `Last-Event-ID`. `event` is the entry's type (state,
    cancel, change, stage, checkpoint, evaluation, warning, error) and `data` the entry as in the
    history. Messages of the type `progress` carry the run's progress and no `id`.

    The stream ends after a final state was told, or that the run was deleted (`delete`); and soon
    after the key with which it was opened was revoked or has expired. Comments keep a silent
    connection open.
    """
    last_id = last_event_id or 0
    number, nothing_follows = await services.streams.in_thread(_find, services, run_id, last_id)
    if nothing_follows and last_id:
        return Response(status_code=http.HTTPStatus.NO_CONTENT)
    listener = Listener(
        key_id=principal.key_id,
        session_id=principal.session_id,
        run_number=number,
        run_id=run_id,
        last_id=last_id,
    )
    return EventStream(services.streams, listener)


def _chosen(types: str | None) -> frozenset[str] | None:
    """The types in a parameter; None: all.

    Raises:
        InvalidRequestError: there is no such type.
    """
    if types is None:
        return None
    chosen = list(filter(None, types.split(",")))
    unknown = [name for name in chosen if name not in EVENT_TYPES]
    if unknown:
        message = unknown_name("type", unknown[0], EVENT_TYPES)
        raise InvalidRequestError(message, fields=[ProblemField(pointer="types", message=message)])
    return frozenset(chosen)


def _place_of_now(services: Services) -> Place:
    with services.sessions() as session:
        return place_of_now(session)


def _find(services: Services, run_id: str, last_id: int) -> tuple[int, bool]:
    """A run's number, and whether it has ended with nothing after ``last_id``.

    Raises:
        NotFoundError: there is no such run.
    """
    with services.sessions() as session:
        run = session.execute(
            select(RunRow.number, RunRow.state).where(
                RunRow.id == run_id, RunRow.deleted_at.is_(None)
            )
        ).one_or_none()
        if run is None:
            raise run_not_found(run_id)
        later = session.scalar(
            select(RunEventRow.id)
            .where(RunEventRow.run_number == run.number, RunEventRow.id > last_id)
            .limit(1)
        )
        return run.number, run.state in TERMINAL_STATES and later is None
