"""Wake-ups: the API's side of the broker, which wakes workers when a run is queued."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from celery import Celery
from kombu.exceptions import KombuError

from api.db.settings import BROKER_VISIBILITY_TIMEOUT_SECONDS, WAKE_UP_QUEUES, WAKE_UP_TASK
from api.settings import ApiSettings
from pmae.schema import RunKind

MAX_MESSAGES = 32
"""Maximum number of messages in a queue; a worker that is awake needs no more."""
PAUSE_SECONDS = 0.1
"""Time between two rounds, so that a burst of submissions is sent as one."""
BROKER_ERRORS = (KombuError, OSError)
"""Errors of the producer when the broker is down, slow or full."""
_logger = logging.getLogger(__name__)


class WakeUpSender:
    """Sends wake-ups: empty messages "a run is queued". Use it in a ``with`` block.

    SQL holds the queue, and the reconciler repeats lost wake-ups. So :meth:`send_soon` never fails
    and never waits for the broker: a thread sends the messages.
    """

    def __init__(self, settings: ApiSettings) -> None:
        self._timeout = settings.broker_timeout_seconds
        self._celery = _producer(settings.broker_url, self._timeout)
        self._changed = threading.Condition()
        self._wanted: Counter[RunKind] = Counter()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="wake-ups", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._celery.close()

    def send_soon(self, kind: RunKind) -> None:
        """Send a wake-up soon, from another thread. Call it after the commit."""
        with self._changed:
            self._wanted[kind] += 1
            self._changed.notify()

    def send(self, kind: RunKind) -> None:
        """Wake a worker that takes runs of ``kind``, now.

        Raises:
            One of :data:`BROKER_ERRORS`: the broker did not take the message.
        """
        self._celery.send_task(
            WAKE_UP_TASK, queue=WAKE_UP_QUEUES[kind], ignore_result=True, retry=False
        )

    def waiting_messages(self, kind: RunKind) -> int:
        """Count the wake-ups for ``kind`` that no worker has taken yet.

        Raises:
            One of :data:`BROKER_ERRORS`: the broker did not answer.
        """
        with self._celery.pool.acquire(block=True) as connection:
            # The transport's own count includes all priorities of the queue.
            length: int = connection.default_channel._size(WAKE_UP_QUEUES[kind])  # noqa: SLF001
        return length

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closing)
                wanted, self._wanted = self._wanted, Counter()
                if self._closing and not wanted:
                    return
            try:
                for kind, count in wanted.items():
                    for _ in range(min(count, MAX_MESSAGES - self.waiting_messages(kind))):
                        self.send(kind)
            except BROKER_ERRORS as error:
                _logger.warning("a wake-up was not sent; the reconciler will repeat it: %s", error)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, PAUSE_SECONDS)


def _producer(url: str, timeout_seconds: float) -> Celery:
    """Create a Celery application that only sends, and gives up after ``timeout_seconds``."""
    app = Celery("pmae", broker=url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        broker_connection_timeout=timeout_seconds,
        broker_connection_retry=False,
        broker_transport_options={
            "visibility_timeout": BROKER_VISIBILITY_TIMEOUT_SECONDS,
            "socket_connect_timeout": timeout_seconds,
            "socket_timeout": timeout_seconds,
            "max_retries": 0,  # of the connection; by default kombu waits 2 s between attempts
        },
    )
    return app
