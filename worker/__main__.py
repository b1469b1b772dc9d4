"""Run a worker: ``python -m worker``. Settings come from the environment (``PMAE_...``).

A worker is one slot: a main process that listens, and one child that executes a run at a time.
SIGTERM and Ctrl-C drain it: the trainer checkpoints, and the run goes back to the queue. Exit
status 1: the name belongs to another living worker.
"""

from __future__ import annotations

import logging
import os
import sys

from api.db.errors import DatabaseAwayError
from api.db.opening import check_database, wait_for_database
from pmae.errors import PmaeError
from pmae.runtime.interrupts import Interrupts
from pmae.runtime.logging import configure_logging

_log = logging.getLogger("worker")


def main() -> None:
    """Run the worker until a signal arrives or the database is migrated to another schema."""
    try:
        # Imported here, since these modules read the settings.
        from worker import task
        from worker.app import app, settings

        configure_logging(settings.log_format)  # for messages before Celery configures logging
        if not _database_is_there(settings.sqlalchemy_url):
            return
        task.take_name()
    except PmaeError as error:
        sys.exit(f"worker: {error}")
    if settings.log_format == "json":
        # Celery prints its shutdown to standard output, not to a logger.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    options = {
        "--pool": "prefork",
        "--concurrency": "1",
        "--loglevel": "INFO",
        "--hostname": f"{settings.worker_name}@%h",
    }
    arguments = [part for option in options.items() for part in option]
    app.worker_main(["--quiet", "worker", *arguments, "--without-gossip", "--without-mingle"])
    if task.refusal:
        sys.exit(f"worker: {task.refusal[0]}")


def _database_is_there(url: str) -> bool:
    """Wait for the database, and check its schema.

    Returns:
        False if a signal arrived first.

    Raises:
        SchemaError: its schema is of another version of the service.
        DatabaseRefusedError: it cannot be used.
    """
    with Interrupts() as interrupts:

        def pause(seconds: float) -> bool:
            interrupts.pause(seconds)
            return not interrupts.requested

        try:
            wait_for_database(url, look=check_database, pause=pause, say=_log.warning)
        except DatabaseAwayError:
            return False
        return not interrupts.requested


if __name__ == "__main__":
    main()
