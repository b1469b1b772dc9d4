"""The one task: claim and execute runs, until none is eligible or the worker drains.

The worker's main process only listens; its forked child executes the task. If the child dies, the
main process gives its run back at once instead of leaving it until the lease expires.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
from functools import partial
from typing import Any

from billiard.exceptions import WorkerLostError
from celery.signals import task_failure, worker_ready, worker_shutdown, worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from api.db import run_states
from api.db.errors import SchemaError, reason
from api.db.revision import current_schema
from api.db.settings import WAKE_UP_QUEUES, WAKE_UP_TASK
from pmae.runtime.logging import log_context
from worker.app import app, settings
from worker.database import sessions_of
from worker.presence.heartbeat import Presence
from worker.presence.registration import GIVEN_BACK, Registration, register
from worker.supervision.claimed_run import Supervisor
from worker.supervision.forking import ForkServer, start_trainer

_log = logging.getLogger(__name__)
_flags = mmap.mmap(-1, 2)
"""Shared by the worker's main process, which sets these, and its forked child."""
_SHUTTING_DOWN, _DRAINING = 0, 1
_registration: list[Registration] = []
refusal: list[SchemaError] = []
"""In the main process: the error because of which the worker ends."""
_presence: list[Presence] = []
_fork_server = ForkServer() if ForkServer.supported() else None
"""Created before the main process forks, so that its child can request trainers."""


def take_name() -> None:
    """Register this worker's name, and give back the runs of a dead worker of that name.

    Raises:
        NameTakenError: it belongs to a living worker.
    """
    registration = register(sessions_of(settings), settings)
    _registration.append(registration)
    _log_given_back(registration.given_back, GIVEN_BACK)


@app.task(name=WAKE_UP_TASK)  # type: ignore[untyped-decorator]
def execute_runs() -> None:
    """Claim and execute runs until none is eligible; a surplus wake-up finds none."""
    try:
        while not is_draining() and _run_next():
            pass
    except SchemaError as error:
        _log.error("no run is claimed: %s", error)
    except SQLAlchemyError as error:
        # The reconciler repeats the wake-up while runs wait.
        _log.warning("the database did not answer: %s", reason(error))
    except MemoryError:
        # Celery ends the whole worker on a MemoryError; the lease then expires.
        _log.exception("the worker ran out of memory")


def is_draining() -> bool:
    """Return True if the worker must give its run back: it shuts down, or was asked to drain."""
    return any(_flags[:])


def _run_next() -> bool:
    sessions = sessions_of(settings)
    with sessions.begin() as session, current_schema(session):
        claimed = run_states.claim(
            session,
            worker=settings.worker_name,
            lease_seconds=settings.lease_seconds,
            slot=settings.slot,
        )
    if claimed is None:
        return False
    with log_context(run_id=claimed.run_id, lease=claimed.lease_number):
        try:
            Supervisor(
                claimed,
                sessions=sessions,
                settings=settings,
                draining=is_draining,
                start=partial(
                    start_trainer,
                    fork_server=_fork_server,
                    # The lease is not renewed meanwhile.
                    timeout_seconds=min(10, settings.lease_seconds / 4),
                ),
            ).run()
        except Exception:
            _log.exception("internal error of the worker")
            with sessions.begin() as session:
                reason = "internal error; see the log of the worker"
                run_states.release(session, claimed, reason=reason)
            raise
    return True


@task_failure.connect  # type: ignore[untyped-decorator]
def _child_died(exception: BaseException | None = None, **_: Any) -> None:
    """Give back the run of the dead child, in the main process."""
    if not isinstance(exception, WorkerLostError):
        return
    reason = "the process that supervised it died"
    with sessions_of(settings).begin() as session:
        released = run_states.release_all_of(session, settings.worker_name, reason=reason)
    _log_given_back(released, reason)
    if released:
        _wake_up()


def _log_given_back(run_ids: list[str], reason: str) -> None:
    for run_id in run_ids:
        with log_context(run_id=run_id):
            _log.warning("the run was given back: %s", reason)


def _wake_up() -> None:
    for kind in settings.slot_kinds:
        app.send_task(WAKE_UP_TASK, queue=WAKE_UP_QUEUES[kind], ignore_result=True)


@worker_ready.connect  # type: ignore[untyped-decorator]
def _begin(**_: Any) -> None:
    (registration,) = _registration
    presence = Presence(
        sessions_of(settings),
        settings,
        registration.identity,
        set_draining=_set_draining,
        tend=_tend_fork_server,
        refuse=_refuse,
    )
    presence.start()
    _presence.append(presence)
    if registration.given_back:
        _wake_up()


def _tend_fork_server() -> None:
    if _fork_server is not None:
        _fork_server.tend()


def _set_draining(requested: bool) -> None:
    _flags[_DRAINING] = requested


def _refuse(error: SchemaError) -> None:
    """Give the run back, and end: this version cannot record events in the new schema."""
    refusal.append(error)
    _log.critical("this worker ends: %s", error)
    os.kill(os.getpid(), signal.SIGTERM)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _drain(**_: Any) -> None:
    _flags[_SHUTTING_DOWN] = True


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _end(**_: Any) -> None:
    for presence in _presence:
        presence.stop()
    for registration in _registration:
        if registration.lock is not None:
            registration.lock.release()
    if _fork_server is not None:
        _fork_server.close()
