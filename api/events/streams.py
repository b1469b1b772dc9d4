"""Event streams: one poller of the database serves every stream that is open in this process.

A stream is a filter over one sequence of events: those of a run, or of all runs and some types.
However many are open, one look asks once for what is new to any of them, and once for the keys and
sessions with which they were opened: a stream ends when its key or session no longer holds.

A message's id is that of its row in ``run_events``, so that a client goes on after a broken
connection where it was (``Last-Event-ID``). ``progress`` messages have no id: they are not kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar

import anyio.to_thread
from sqlalchemy.orm import Session, sessionmaker
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from api.auth.service import holding_keys
from api.auth.sign_ins import holding_sessions
from api.events.listener import Listener
from api.events.look import Found, look, queue_new
from api.events.order import EventOrder

THREADS = 4
"""Threads that read the database for streams: one feeds the open ones, the others open more."""
RETRY_MILLISECONDS = 2_000
"""After a broken connection a browser waits this long before it connects again."""
_T = TypeVar("_T")
_logger = logging.getLogger(__name__)


class EventStreams:
    """The open event streams of this process, and the task that feeds them."""

    def __init__(
        self, sessions: sessionmaker[Session], *, poll_seconds: float, heartbeat_seconds: float
    ) -> None:
        self.heartbeat_seconds = heartbeat_seconds
        self._sessions = sessions
        self._poll_seconds = poll_seconds
        self._listeners: set[Listener] = set()
        self._order = EventOrder()
        self._changed = asyncio.Event()
        self._closed = False
        self._threads = anyio.CapacityLimiter(THREADS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Feed the streams meanwhile; end them on leaving."""
        task = asyncio.create_task(self._poll(), name="event-streams")
        try:
            yield
        finally:
            # Not cancelled: a look that is under way in its thread still holds a connection.
            self.close()
            await task

    def close(self) -> None:
        """End every open stream: the service stops."""
        self._closed = True
        self._changed.set()
        for listener in self._listeners:
            listener.end()

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Feed a listener meanwhile, from the event after its ``last_id`` on."""
        if self._closed:
            listener.end()
        self._listeners.add(listener)
        self._changed.set()
        try:
            yield
        finally:
            self._listeners.discard(listener)

    async def in_thread(self, read: Callable[..., _T], *arguments: object) -> _T:
        """Read in the database; other requests' threads are not waited for."""
        return await anyio.to_thread.run_sync(read, *arguments, limiter=self._threads)

    async def _poll(self) -> None:
        while not self._closed:
            if await self._feed():
                await self._pause(self._poll_seconds if self._listeners else None)

    async def _feed(self) -> bool:
        """Look once, and queue what was found; return True if nothing was left over."""
        # A stream that joins during the look waits for the next one, since it may begin later.
        listeners = [one for one in self._listeners if one.has_room and not one.ended]
        if not any(one.run_number is None for one in self._listeners):
            self._order = EventOrder()
        keys = {one.key_id for one in self._listeners if one.key_id is not None}
        sign_ins = {one.session_id for one in self._listeners if one.session_id is not None}
        try:
            lapsed = await self.in_thread(self._lapsed, keys, sign_ins) if keys else keys
            found = await self.in_thread(self._look, listeners) if listeners else {}
        except Exception:
            _logger.exception("event streams wait: the database cannot be read")
            return True
        for one in self._listeners:
            if one.key_id in lapsed or one.session_id in lapsed:
                one.cut()
        for listener in listeners:
            if listener.run_number in found:
                queue_new(listener, found[listener.run_number])
        return all(part.complete for part in found.values())

    async def _pause(self, seconds: float | None) -> None:
        """Sleep until the next look is due, a stream joins, or the service stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout=seconds)
        self._changed.clear()

    def _lapsed(self, keys: set[str], sign_ins: set[str]) -> set[str]:
        """Ids of those of the keys and sessions that do not hold any more."""
        with self._sessions() as session:
            lapsed = keys - holding_keys(session, keys)
            if sign_ins:
                lapsed |= sign_ins - holding_sessions(session, sign_ins)
        return lapsed

    def _look(self, listeners: Sequence[Listener]) -> dict[int | None, Found]:
        with self._sessions() as session:
            return look(session, self._order, listeners)


class EventStream(EventSourceResponse):
    """A response that feeds a listener for as long as its reader stays.

    The format, heartbeats and the end with a reader that went away are sse-starlette's. The end
    with the service is ours (:meth:`EventStreams.close`): the library cancels a response, which
    tears the connection, where ours ends it after a whole message. Its own remains for a reader
    who reads nothing: what is stuck in sending is cancelled within a second.
    """

    def __init__(self, streams: EventStreams, listener: Listener) -> None:
        self._streams = streams
        self._listener = listener
        super().__init__(
            _messages(listener),
            headers={"Cache-Control": "no-cache"},
            ping=streams.heartbeat_seconds,
            ping_message_factory=lambda: ServerSentEvent(comment="still here", sep="\n"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send messages; the listener is gone when this returns, whatever ended it."""
        with self._streams.listening(self._listener):
            await super().__call__(scope, receive, send)


async def _messages(listener: Listener) -> AsyncIterator[bytes]:
    yield ServerSentEvent(retry=RETRY_MILLISECONDS, sep="\n").encode()
    while (content := await listener.queue.get()) is not None:
        yield content
