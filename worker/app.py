"""The Celery application. ``python -m worker`` starts a worker of it.

A message is an empty wake-up; SQL decides which run to claim. So messages are acknowledged when
they arrive, none is prefetched, and no results are stored.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from celery.utils.log import get_multiprocessing_logger
from kombu.entity import Queue

from api.db.settings import BROKER_VISIBILITY_TIMEOUT_SECONDS, WAKE_UP_QUEUES
from pmae.runtime.logging import configure_logging
from pmae.settings import load_settings
from worker.settings import WorkerSettings

settings = load_settings(WorkerSettings)
app = Celery("pmae", broker=settings.broker_url, include=["worker.task"])
app.conf.update(
    task_queues=[Queue(WAKE_UP_QUEUES[kind]) for kind in settings.slot_kinds],
    task_create_missing_queues=False,
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=False,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_hijack_root_logger=False,
    broker_transport_options={"visibility_timeout": BROKER_VISIBILITY_TIMEOUT_SECONDS},
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)


@setup_logging.connect  # type: ignore[untyped-decorator]
def _configure_logging(loglevel: int | None = None, **_: Any) -> None:
    """Configure logging instead of Celery's own set-up."""
    configure_logging(settings.log_format, level=loglevel or logging.INFO)
    # The pool's logger, which reports a dead child, does not propagate by default.
    pool = get_multiprocessing_logger()
    pool.setLevel(logging.ERROR)
    pool.propagate = True
