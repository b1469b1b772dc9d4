"""Healthcheck of this machine's worker: ``python -m worker.health``.

With the worker's environment, in its container: exit status 0 if its row was renewed lately and the
broker answers, else 1 and a sentence. The row is asked of the database, so a lost database is seen
as well as a main process that hangs. Imports no torch; half a second of CPU.
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
"""So many in a row, and the worker is dead; one may wait for a database that is busy."""
PATIENCE_SECONDS = 4.0

Check = Callable[[WorkerSettings], str | None]
"""What is wrong; None if nothing is."""


def main() -> int:
    """Look, print what is wrong, and return the exit status."""
    try:
        settings = WorkerSettings()
    except ValidationError as error:
        return _tell(setting_faults(error))
    return _tell(problems(settings), name=settings.worker_name)


def _tell(found: list[str], *, name: str = "") -> int:
    sys.stdout.write("; ".join(found or [f"{name} is well"]) + "\n")
    return 1 if found else 0


def problems(settings: WorkerSettings, *, patience_seconds: float = PATIENCE_SECONDS) -> list[str]:
    """What is wrong with the worker that has these settings, a sentence each."""
    checks: dict[str, Check] = {"database": check_heartbeat, "broker": check_broker}
    found: dict[str, str | None] = {
        name: f"the {name} did not answer within {patience_seconds:g} s" for name in checks
    }

    def look(name: str) -> None:
        found[name] = checks[name](settings)

    # Beside each other, and as daemons: one that never comes back does not keep the process.
    threads = [threading.Thread(target=look, args=(name,), daemon=True) for name in checks]
    for thread in threads:
        thread.start()
    give_up = time.monotonic() + patience_seconds
    for thread in threads:
        thread.join(max(0.0, give_up - time.monotonic()))
    return [without_passwords(problem) for problem in found.values() if problem is not None]


def check_heartbeat(settings: WorkerSettings) -> str | None:
    """Look for the worker's row, as this host's, renewed lately."""
    name, allowed = settings.worker_name, MISSED_HEARTBEATS * settings.heartbeat_seconds
    url = make_url(settings.sqlalchemy_url)
    if url.get_backend_name() != "sqlite":
        url = url.update_query_dict({"connect_timeout": str(int(PATIENCE_SECONDS))})
    elif not Path(url.database or "").is_file():
        return f"the database is lost: {url.database} is not there"  # to connect would make one
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
        return f"the worker {name} has not said yet that it is there"
    if row.host != socket.gethostname():
        return f"the worker {name} is another one, on the host {row.host}"
    if row.seconds > allowed:
        return f"the worker {name} gave no sign of life for {row.seconds:.0f} s"
    return None


def check_broker(settings: WorkerSettings) -> str | None:
    """Ask the broker, by the address that Celery has it by."""
    options = {
        "socket_connect_timeout": PATIENCE_SECONDS,
        "socket_timeout": PATIENCE_SECONDS,
        "max_retries": 0,  # kombu would wait 2 s before the next try
    }
    try:
        with Connection(settings.broker_url, transport_options=options) as connection:
            connection.default_channel.client.ping()
    except (OSError, KombuError, RedisError) as error:
        return f"the broker is lost: {_words(error)}"
    return None


def _words(error: Exception) -> str:
    """The driver's words on one line."""
    told = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(told).split())


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # past what waits for a server that does not answer
