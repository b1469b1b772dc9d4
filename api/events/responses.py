"""The responses of event streams."""

from __future__ import annotations

import http

from fastapi import Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from starlette.types import Receive, Scope, Send

from api.auth.principal import Principal
from api.db.tables import RunEventRow, RunRow
from api.events.all_runs import ServiceListener
from api.events.order import Place, place_of_now
from api.events.streams import Listener, RunStreams
from api.runs.service import run_not_found
from pmae.schema import TERMINAL_STATES


class EventStream(StreamingResponse):
    """Feeds a listener for as long as the client stays."""

    media_type = "text/event-stream"

    def __init__(self, streams: RunStreams, listener: Listener | ServiceListener) -> None:
        self._listener = listener
        self._streams = streams
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(content=(), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send messages; the listener is gone when this returns, whatever ended it."""
        with self._streams.listening(self._listener):
            self.body_iterator = self._streams.messages(self._listener)
            await super().__call__(scope, receive, send)


async def open_service_stream(
    streams: RunStreams,
    sessions: sessionmaker[Session],
    *,
    principal: Principal,
    last_id: int | None,
    types: frozenset[str] | None,
) -> Response:
    """The events of all runs after ``last_id``, or from now on, while the caller's key holds."""

    def place() -> Place:
        with sessions() as session:
            return place_of_now(session)

    start = await streams.in_thread(place) if last_id is None else Place(last_id, frozenset())
    listener = ServiceListener(
        key_id=principal.key_id,
        session_id=principal.session_id,
        last_id=start.last_id,
        told=start.told,
        types=types,
    )
    return EventStream(streams, listener)


async def open_stream(
    streams: RunStreams,
    sessions: sessionmaker[Session],
    run_id: str,
    *,
    principal: Principal,
    last_id: int,
) -> Response:
    """The events of a run after ``last_id``, while the caller's key holds.

    Returns:
        The stream; or 204, which tells a browser to stay away, when the run has ended and nothing
        came after ``last_id``.

    Raises:
        NotFoundError: there is no such run.
    """

    def look() -> tuple[int, bool]:
        with sessions() as session:
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

    number, told_all = await streams.in_thread(look)
    if told_all and last_id:
        return Response(status_code=http.HTTPStatus.NO_CONTENT)
    listener = Listener(
        key_id=principal.key_id,
        session_id=principal.session_id,
        run_id=run_id,
        run_number=number,
        last_id=last_id,
    )
    return EventStream(streams, listener)
