"""The worker's settings: environment variables that start with ``PMAE_``."""

from __future__ import annotations

import os
import socket

from pydantic import Field

from pmae.settings import ServiceSettings


class WorkerSettings(ServiceSettings):
    """What a worker needs beside the database and the broker."""

    worker_name: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="Name of this worker, unique in the service; default: host and process id.",
    )
    drain_grace_seconds: float = Field(
        default=90.0,
        ge=0,
        description="From SIGTERM to SIGKILL of the trainer when the worker shuts down.",
    )
