"""Client methods for event streams: of one run, or of all runs."""

from __future__ import annotations

import http
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TypeVar

import httpx
import httpx_sse
from pydantic import BaseModel, ValidationError

from pmae.client.backoff import Backoff
from pmae.client.connection import Connection, path_of
from pmae.client.errors import UnexpectedAnswerError
from pmae.errors import ClientError
from pmae.schema import TERMINAL_STATES, HistoryEntry, Progress, RunSummary
from pmae.schema.runs import ServiceEvent

_T = TypeVar("_T", bound=BaseModel)
STREAM_SILENCE_SECONDS = 60.0
"""Read timeout of an event stream, which sends heartbeats much more often."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Event of a run: an entry of its history, or its progress.

    Attributes:
        type: ``progress``, or the type of the entry: ``state``, ``checkpoint``, ``evaluation``, ...
        run_id: id of the run.
        entry: entry of the run's history; None for ``progress``.
        progress: the run's progress; None for other types.
        run: the run as it is now, on the stream of all runs only; None if it was deleted.
    """

    type: str
    run_id: str
    entry: HistoryEntry | None = None
    progress: Progress | None = None
    run: RunSummary | None = None

    @property
    def id(self) -> int | None:
        """Id to resume the stream after; None for ``progress``, which is not stored."""
        return None if self.entry is None else self.entry.id

    @property
    def is_final(self) -> bool:
        """True if the event ends the run: a final state, or its deletion."""
        if self.type == "state" and self.entry is not None:
            return self.entry.data.get("to") in TERMINAL_STATES
        return self.type == "delete"


class EventMethods(Connection):
    """Methods of :class:`~pmae.client.PmaeClient` for event streams."""

    def events(
        self,
        run_id: str | None = None,
        *,
        types: Collection[str] | None = None,
        last_event_id: int | None = None,
        backoff: Backoff | None = None,
    ) -> Iterator[Event]:
        """Follow one run from its start to its end, or all runs from now on without end.

        After a broken connection or a restart of the service the stream resumes after the last
        event: none is lost or repeated. It also ends when another thread closes the client.

        Args:
            run_id: id of the run; None: all runs.
            types: event types to yield, of ``pmae.schema.runs.EVENT_TYPES``; None: all.
            last_event_id: begin after this event.
            backoff: waits between connections, and for the first one; default: an unreachable
                service is an error at first.

        Raises:
            ClientError: a retry cannot help: there is no such run, or the key is not valid.
        """
        waits, connected = backoff or Backoff(), backoff is not None
        final = False
        while not self.is_closed():
            try:
                for message in self._messages(run_id, types, last_event_id):
                    if message.id:
                        last_event_id = int(message.id)
                    waits.answered()
                    connected = True
                    if message.data:
                        event = _event_of_run(run_id, message) if run_id else _event(message)
                        if run_id is not None and event.entry is not None:
                            final = event.is_final
                        if types is None or event.type in types:
                            yield event
            except _EndedError:
                return
            except ClientError as error:
                if self.is_closed():
                    return
                if not connected:
                    raise
                waits.wait_after(error)
                continue
            if final:
                return
            waits.wait()  # the service stops, or the key was revoked: the next request shows which

    def _messages(
        self, run_id: str | None, types: Collection[str] | None, last_event_id: int | None
    ) -> Iterator[httpx_sse.ServerSentEvent]:
        """Yield the messages of one connection, until the service closes it.

        Raises:
            _EndedError: the run has ended, and all its events were sent.
        """
        path = path_of("events") if run_id is None else path_of("runs", run_id, "events")
        params = {"types": ",".join(types)} if types is not None and run_id is None else {}
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        timeout = httpx.Timeout(self._http.timeout.connect, read=STREAM_SILENCE_SECONDS)
        with self._stream(path, headers, timeout=timeout, params=params) as response:
            if response.status_code == http.HTTPStatus.NO_CONTENT:
                raise _EndedError
            try:
                yield from httpx_sse.EventSource(response).iter_sse()
            except httpx_sse.SSEError as error:
                raise UnexpectedAnswerError(
                    f"{response.request.url} answered, but not with an event stream: {error}"
                ) from error


class _EndedError(Exception):
    """The event stream of a run is complete."""


def _event_of_run(run_id: str, message: httpx_sse.ServerSentEvent) -> Event:
    if message.event == "progress":
        return Event(type="progress", run_id=run_id, progress=_read(message, Progress))
    return Event(type=message.event, run_id=run_id, entry=_read(message, HistoryEntry))


def _event(message: httpx_sse.ServerSentEvent) -> Event:
    if message.event == "progress":
        run = _read(message, RunSummary)
        return Event(type="progress", run_id=run.id, progress=run.progress, run=run)
    entry = _read(message, ServiceEvent)
    return Event(type=message.event, run_id=entry.run_id, entry=entry, run=entry.run)


def _read(message: httpx_sse.ServerSentEvent, kind: type[_T]) -> _T:
    try:
        return kind.model_validate_json(message.data)
    except ValidationError as error:
        raise UnexpectedAnswerError(
            f"an event {message.event!r} is not one of this service: {message.data[:100]!r}; "
            "client and service may differ in version"
        ) from error
