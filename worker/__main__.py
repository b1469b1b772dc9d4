"""Run a worker: ``python -m worker``. Settings come from the environment (``PMAE_...``).

One slot: a main process that listens and one child that executes a run at a time. SIGTERM and
Ctrl-C drain it: the trainer checkpoints, and the run goes back to the queue. Exit status 1: a
living worker has its name.
"""

from __future__ import annotations

import logging
import os
import sys

from pmae.logs import configure_logging
from worker import task
from worker.app import app, settings
from worker.registration import NameTakenError

OPTIONS = {
    "--pool": "prefork",
    "--concurrency": "1",
    "--loglevel": "INFO",
    "--hostname": f"{settings.worker_name}@%h",
}


def main() -> None:
    """Work until a signal comes."""
    configure_logging(settings.log_format)  # for what is told before Celery asks for it
    if settings.log_format == "json":
        # Celery announces its shutdown on standard output, past every logger.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        task.take_name()
    except NameTakenError as error:
        logging.getLogger(__name__).critical("%s", error)
        sys.exit(1)
    options = [part for option in OPTIONS.items() for part in option]
    app.worker_main(["--quiet", "worker", *options, "--without-gossip", "--without-mingle"])


if __name__ == "__main__":
    main()
