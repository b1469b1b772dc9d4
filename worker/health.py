"""Healthcheck of this machine's worker: ``python -m worker.health``.

Run it with the worker's environment, in its container: exit status 0 if its row was renewed
recently and the broker answers, else 1 and a sentence. It reads the row from the database, so it
detects a lost database as well as a hanging main process. Imports no torch; takes 0.5 s of CPU.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kombu.connection import Connection
from kombu.exceptions import KombuError
from pydantic import ValidationError
from redis.exceptions import RedisError
from sqlalchemy import make_url, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from api.db.clock import database_now
from api.db.session import make_engine, make_sessions
from api.db.tables import WorkerRow
from pmae.runtime.logging import without_passwords
from pmae.spec.messages import setting_faults
from worker.settings import WorkerSettings

MISSED_HEARTBEATS = 3
"""Heartbeats missed in a row before the worker counts as dead; one may wait for the database."""
TIMEOUT_SECONDS = 4.0

Check = Callable[[WorkerSettings], str | None]
"""A check: returns what is wrong, or None."""


def main() -> int:
    """Check, print what is wrong, and return the exit status."""
    try:
        settings = WorkerSettings()
    except ValidationError as error:
        return _report(setting_faults(error))
    return _report(problems(settings), name=settings.worker_name)


def _report(found: list[str], *, name: str = "") -> int:
    sys.stdout.write("; ".join(found or [f"{name} is well"]) + "\n")
    return 1 if found else 0


def problems(settings: WorkerSettings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> list[str]:
    """Check the worker that has these settings; return a sentence for each problem."""
    checks: dict[str, Check] = {"database": check_heartbeat, "broker": check_broker}
    found: dict[str, str | None] = {
        name: f"the {name} did not answer within {timeout_seconds:g} s" for name in checks
    }

    def look(name: str) -> None:
        found[name] = checks[name](settings)

    # In parallel daemon threads: one that hangs does not keep the process alive.
    threads = [threading.Thread(target=look, args=(name,), daemon=True) for name in checks]
    for thread in threads:
        thread.start()
    give_up = time.monotonic() + timeout_seconds
    for thread in threads:
        thread.join(max(0.0, give_up - time.monotonic()))
    return [without_passwords(problem) for problem in found.values() if problem is not None]


def check_heartbeat(settings: WorkerSettings) -> str | None:
    """Check that the worker's row belongs to this host and was renewed recently."""
    name, allowed = settings.worker_name, MISSED_HEARTBEATS * settings.heartbeat_seconds
    url = make_url(settings.sqlalchemy_url)
    if url.get_backend_name() != "sqlite":
        url = url.update_query_dict({"connect_timeout": str(int(TIMEOUT_SECONDS))})
    elif not Path(url.database or "").is_file():
        return (
            f"the database is lost: {url.database} is not there"  # connecting would create the file
        )
    engine = make_engine(url.render_as_string(hide_password=False), pooled=False)
    silence = (database_now() - WorkerRow.last_seen_at).label("seconds")
    try:
        with make_sessions(engine)() as session:
            row = session.execute(
                select(silence, WorkerRow.host).where(WorkerRow.name == name)
            ).one_or_none()
    except SQLAlchemyError as error:
        return f"the database is lost: {_words(error)}"
    if row is None:
        return f"the worker {name} has not registered yet"
    if row.host != socket.gethostname():
        return f"the name {name} belongs to a worker on the host {row.host}"
    if row.seconds > allowed:
        return f"the worker {name} sent no heartbeat for {row.seconds:.0f} s"
    return None


def check_broker(settings: WorkerSettings) -> str | None:
    """Check that the broker answers at the URL that Celery uses."""
    options = {
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "socket_timeout": TIMEOUT_SECONDS,
        "max_retries": 0,  # by default kombu waits 2 s between attempts
    }
    try:
        with Connection(settings.broker_url, transport_options=options) as connection:
            connection.default_channel.client.ping()
    except (OSError, KombuError, RedisError) as error:
        return f"the broker is lost: {_words(error)}"
    return None


def _words(error: Exception) -> str:
    """Return the driver's message on one line."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(cause).split())


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # without waiting for threads whose server does not answer
