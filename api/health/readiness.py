"""Readiness of the service: database, broker and storage."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self

import anyio.to_thread
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.db.errors import reason
from api.queue.wake_up import BROKER_ERRORS, WakeUpSender
from api.settings import ApiSettings
from api.storage.space import free_bytes
from pmae.schema import Readiness

_logger = logging.getLogger(__name__)


class ReadinessCheck:
    """Checks database, broker and storage in parallel; concurrent callers share one check.

    The route needs no key, and a broker that does not answer takes seconds: one check per caller
    would use up the threads of the service. Used from one event loop.
    """

    def __init__(self, check: Callable[[], Readiness]) -> None:
        self._check = check
        self._thread = anyio.CapacityLimiter(1)
        self._under_way: asyncio.Task[Readiness] | None = None

    @classmethod
    def of(
        cls, settings: ApiSettings, sessions: sessionmaker[Session], wake_ups: WakeUpSender
    ) -> Self:
        """Make the check of an application."""
        return cls(partial(_check, settings, sessions, wake_ups))

    async def ask(self) -> Readiness:
        """Check all three now, or join the check in progress."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(
                anyio.to_thread.run_sync(self._check, limiter=self._thread)
            )
        return await asyncio.shield(self._under_way)


def _check(
    settings: ApiSettings, sessions: sessionmaker[Session], wake_ups: WakeUpSender
) -> Readiness:
    checks: dict[str, Callable[[], str]] = {
        "database": lambda: _check_database(sessions),
        "broker": lambda: _check_broker(wake_ups),
        "storage": lambda: _check_storage(settings),
    }
    with ThreadPoolExecutor(len(checks)) as pool:
        running = {name: pool.submit(check) for name, check in checks.items()}
        answers = {name: future.result() for name, future in running.items()}
    return Readiness(ready=all(answer == "ok" for answer in answers.values()), checks=answers)


def _check_database(sessions: sessionmaker[Session]) -> str:
    try:
        with sessions() as session:
            session.execute(select(1))
    except SQLAlchemyError as error:
        _logger.warning("the database does not answer: %s", reason(error))
        return "does not answer"
    return "ok"


def _check_broker(wake_ups: WakeUpSender) -> str:
    try:
        wake_ups.waiting_messages("pretrain")
    except BROKER_ERRORS as error:
        _logger.warning("the broker does not answer: %s", error)
        return "does not answer"
    return "ok"


def _check_storage(settings: ApiSettings) -> str:
    try:
        free = free_bytes(settings)
        with tempfile.TemporaryFile(dir=settings.artifact_dir) as file:
            file.write(b"ok")
            file.flush()
    except OSError as error:
        return f"cannot be written: {os.strerror(error.errno or 0)}"
    if free < settings.min_free_disk_bytes:
        return f"{free:,} bytes are free; expected at least {settings.min_free_disk_bytes:,}"
    return "ok"
