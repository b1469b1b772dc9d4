"""The one task: take what waits and run it, until nothing waits or the worker shuts down."""

from __future__ import annotations

import logging
import mmap
from typing import Any

from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from api.db import run_states
from pmae.settings import DOORBELL_TASK
from worker.app import app, settings
from worker.database import sessions_of
from worker.presence import Presence, tell_what_runs
from worker.supervise import Supervisor

_log = logging.getLogger(__name__)
_draining = mmap.mmap(-1, 1)
"""Shared by the worker's main process, which learns of a shutdown, and its forked child."""
_presence: list[Presence] = []


@app.task(name=DOORBELL_TASK)  # type: ignore[untyped-decorator]
def doorbell() -> None:
    """Claim and execute runs until nothing is eligible; a ring too many finds nothing."""
    try:
        while not is_draining() and _run_next():
            pass
    except SQLAlchemyError as error:
        # The reconciler rings again while runs wait.
        _log.warning("the database did not answer: %s", error)
    except MemoryError:
        # Celery ends the whole worker on a MemoryError; the lease and the reconciler do the rest.
        _log.exception("the worker ran out of memory")


def is_draining() -> bool:
    """Whether the worker shuts down."""
    return _draining[0] != 0


def _run_next() -> bool:
    sessions = sessions_of(settings)
    with sessions.begin() as session:
        claimed = run_states.claim(
            session, worker=settings.worker_name, lease_seconds=settings.lease_seconds
        )
    if claimed is None:
        return False
    tell_what_runs(sessions, settings.worker_name, claimed.run_id)
    try:
        Supervisor(claimed, sessions=sessions, settings=settings, draining=is_draining).run()
    finally:
        tell_what_runs(sessions, settings.worker_name, None)
    return True


@worker_ready.connect  # type: ignore[untyped-decorator]
def _begin(**_: Any) -> None:
    presence = Presence(sessions_of(settings), settings)
    presence.start()
    _presence.append(presence)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _drain(**_: Any) -> None:
    _draining[0] = 1


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _end(**_: Any) -> None:
    for presence in _presence:
        presence.stop()
