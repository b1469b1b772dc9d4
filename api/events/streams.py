"""Following runs: one poller of the database serves every open event stream.

Streams of one run are fed here, those of all runs by :mod:`api.events.all_runs`.

A message's id is that of its row in ``run_events``, so that a client goes on after a broken
connection where it was (``Last-Event-ID``). Every writer updates the run's row before it adds an
event, in one transaction; so the events of one run become visible in the order of their ids, and
"greater than the last id" misses none. ``progress`` messages have no id: they are not kept.

A stream ends when the key, or the session, with which it was opened does not hold any more: each
look asks for all of the listeners' keys at once, and for all of their sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import anyio.to_thread
from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session, sessionmaker

from api.auth.service import holding_keys
from api.auth.sign_ins import holding_sessions
from api.db.tables import RunEventRow, RunRow
from api.events.all_runs import (
    ServiceListener,
    ServiceLook,
    look_at_service,
    tell_of_service,
)
from api.events.order import EventOrder
from api.events.outbox import Outbox, encode_message
from api.runs.views import history_entry
from pmae.schema import TERMINAL_STATES, Progress

THREADS = 4
"""That look at the database for streams: one for those that are open, the others open more."""
_T = TypeVar("_T")
_MOST_ROWS = 2_000
"""Events read in one look."""
_logger = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class Listener(Outbox):
    """One open stream of a run: where it is, and what it was not sent yet.

    Attributes:
        run_id: the run that it follows.
        run_number: of the same run.
        last_id: of the newest event that is in ``messages`` or was taken from it.
        progress: the last progress message's data.
    """

    run_id: str
    run_number: int
    last_id: int
    progress: str | None = None


@dataclass(frozen=True)
class _Look:
    """What one look at the database found."""

    runs: dict[int, tuple[str, str]]
    """By run number: state, and the progress message's data. Deleted ones are not in it."""
    events: Sequence[tuple[int, int, bytes]]
    """Run number, id and message, by rising id."""
    complete: bool
    """Whether there were no more events than these."""


class RunStreams:
    """The open event streams of this process, and the task that feeds them."""

    def __init__(
        self, sessions: sessionmaker[Session], *, poll_seconds: float, heartbeat_seconds: float
    ) -> None:
        self._sessions = sessions
        self._poll_seconds = poll_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._listeners: set[Listener | ServiceListener] = set()
        self._order = EventOrder()
        self._changed = asyncio.Event()
        self._closed = False
        self._threads = anyio.CapacityLimiter(THREADS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Feed the streams meanwhile; end them on leaving."""
        task = asyncio.create_task(self._poll(), name="run-streams")
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
    def listening(self, listener: Listener | ServiceListener) -> Iterator[None]:
        """Feed a listener meanwhile, from the event after its ``last_id`` on."""
        if self._closed:
            listener.end()
        self._listeners.add(listener)
        self._changed.set()
        try:
            yield
        finally:
            self._listeners.discard(listener)

    async def in_thread(self, look: Callable[..., _T], *arguments: object) -> _T:
        """What ``look`` finds in the database; other requests' threads are not waited for."""
        return await anyio.to_thread.run_sync(look, *arguments, limiter=self._threads)

    async def messages(self, listener: Outbox) -> AsyncIterator[bytes]:
        """What to send to a listener, until the run has ended and was told in full."""
        yield b"retry: 2000\n\n"
        while True:
            try:
                message = await asyncio.wait_for(
                    listener.messages.get(), timeout=self._heartbeat_seconds
                )
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if message is None:
                return
            yield message

    async def _poll(self) -> None:
        while not self._closed:
            if await self._feed():
                await self._pause(self._poll_seconds if self._listeners else None)

    async def _feed(self) -> bool:
        """Look once, and tell those it was for. Whether all there was is told."""
        # Who joins during the look waits for the next one: this one may start after its place.
        listeners = [one for one in self._listeners if one.has_room and not one.ended]
        of_runs = [one for one in listeners if isinstance(one, Listener)]
        of_all = [one for one in listeners if isinstance(one, ServiceListener)]
        if not any(isinstance(one, ServiceListener) for one in self._listeners):
            self._order = EventOrder()
        keys = {one.key_id for one in self._listeners if one.key_id is not None}
        sign_ins = {one.session_id for one in self._listeners if one.session_id is not None}
        try:
            ended = await self.in_thread(self._ended, keys, sign_ins) if keys else keys
            look = await self.in_thread(self._look, of_runs) if of_runs else None
            service_look = await self.in_thread(self._look_at_all, of_all) if of_all else None
        except Exception:
            _logger.exception("event streams wait: the database cannot be read")
            return True
        for one in self._listeners:
            if one.key_id in ended or one.session_id in ended:
                one.cut()
        if look is not None:
            for listener in of_runs:
                _tell(listener, look)
        if service_look is not None:
            for follower in of_all:
                tell_of_service(follower, service_look)
        return all(one.complete for one in (look, service_look) if one is not None)

    async def _pause(self, seconds: float | None) -> None:
        """Until the next look is due, somebody has joined, or the service stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout=seconds)
        self._changed.clear()

    def _ended(self, keys: set[str], sign_ins: set[str]) -> set[str]:
        """Ids of those of the keys and sessions that do not hold any more."""
        with self._sessions() as session:
            ended = keys - holding_keys(session, keys)
            if sign_ins:
                ended |= sign_ins - holding_sessions(session, sign_ins)
        return ended

    def _look_at_all(self, listeners: Sequence[ServiceListener]) -> ServiceLook | None:
        with self._sessions() as session:
            return look_at_service(session, self._order, listeners)

    def _look(self, listeners: Sequence[Listener]) -> _Look:
        """Read the rows first: the events of a state that was seen are then there too."""
        oldest: dict[int, int] = {}
        for one in listeners:
            oldest[one.run_number] = min(one.last_id, oldest.get(one.run_number, one.last_id))
        with self._sessions() as session:
            rows = session.execute(
                select(RunRow.number, RunRow.state, RunRow.progress).where(
                    RunRow.number.in_(oldest), RunRow.deleted_at.is_(None)
                )
            ).all()
            new = or_(
                *(
                    and_(RunEventRow.run_number == number, RunEventRow.id > last_id)
                    for number, last_id in oldest.items()
                )
            )
            events = session.scalars(
                select(RunEventRow).where(new).order_by(RunEventRow.id).limit(_MOST_ROWS)
            ).all()
            complete = len(events) < _MOST_ROWS
            gone = oldest.keys() - {row.number for row in rows}
            deletions = _deletions(session, listeners, gone) if complete and gone else []
        return _Look(
            runs={
                row.number: (row.state, Progress.model_validate(row.progress).model_dump_json())
                for row in rows
            },
            events=[
                (event.run_number, event.id, _event_message(event))
                for event in events
                if event.run_number is not None
            ]
            + deletions,
            complete=complete,
        )


def _deletions(
    session: Session, listeners: Sequence[Listener], gone: Collection[int]
) -> list[tuple[int, int, bytes]]:
    """That runs were deleted, which is the last of each: run number, id and message."""
    numbers = {one.run_id: one.run_number for one in listeners if one.run_number in gone}
    rows = session.scalars(
        select(RunEventRow).where(RunEventRow.run_number.is_(None), RunEventRow.key.in_(numbers))
    )
    return [(numbers[row.key], row.id, _event_message(row)) for row in rows if row.key is not None]


def _tell(listener: Listener, look: _Look) -> None:
    """Queue what is new for a listener."""
    if listener.ended:
        return
    state, progress = look.runs.get(listener.run_number, (None, None))
    if progress is not None and progress != listener.progress:
        listener.progress = progress
        listener.put(encode_message("progress", progress))
    for number, event_id, message in look.events:
        if number == listener.run_number and event_id > listener.last_id:
            if not listener.has_room:
                return
            listener.put(message)
            listener.last_id = event_id
    if look.complete and (state is None or state in TERMINAL_STATES):
        listener.end()  # it has ended, or is gone


def _event_message(row: RunEventRow) -> bytes:
    return encode_message(row.type, history_entry(row).model_dump_json(), event_id=row.id)
