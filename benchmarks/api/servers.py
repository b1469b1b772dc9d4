"""The service's API and its database, as shipped, in separate processes on the loopback.

The API runs as ``python -m api``: on SQLite as ``make up`` starts it, on PostgreSQL as the compose
file does, with keys, the audit log, and durable writes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from api.auth.service import create_key
from api.db.migrate import upgrade
from api.db.session import make_engine, make_sessions
from benchmarks.api.load import Address, Client
from pmae.schema.access import ApiKeyRequest
from pmae.up import broker
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until

Database = Literal["SQLite", "PostgreSQL"]
DATABASES: tuple[Database, ...] = ("SQLite", "PostgreSQL")
API_PREFIX = "/api/v1"


@dataclass(frozen=True)
class RunningApi:
    """A running API.

    Attributes:
        address: for clients.
        database_url: SQLAlchemy's.
        home: folder of its state.
    """

    address: Address
    database_url: str
    home: Path


@contextmanager
def running_database(kind: Database, folder: Path) -> Iterator[str]:
    """Run an empty, migrated database, and yield its SQLAlchemy URL."""
    with ExitStack() as stack:
        if kind == "SQLite":
            url = f"sqlite:///{folder / 'pmae.sqlite3'}"
        else:
            server = PostgresServer(durable=True)
            stack.callback(server.remove)
            server.start()
            url = server.address.replace("postgresql://", "postgresql+psycopg://")
        upgrade(url)
        yield url


@contextmanager
def running_api(kind: Database, database_url: str, folder: Path) -> Iterator[RunningApi]:
    """Run a broker and the API on a database of ``kind``."""
    port = free_port()
    socket = folder / "broker.sock"
    environment = {
        "PMAE_HOME": str(folder),
        "PMAE_DATABASE_URL": database_url,
        "PMAE_BROKER_URL": broker.url(socket),
        "PMAE_API_PORT": str(port),
        "PMAE_WRITES_PER_MINUTE": "0",
    }
    headers = {} if kind == "SQLite" else {"Authorization": f"Bearer {_make_key(database_url)}"}
    address = Address(port, API_PREFIX, headers)
    with (
        process(broker.command(socket), log=folder / "broker.log"),
        process([sys.executable, "-m", "api"], environment, log=folder / "api.log") as server,
    ):
        wait_until_it_answers(server, address, "/livez")
        yield RunningApi(address, database_url, folder)


def _make_key(database_url: str) -> str:
    engine = make_engine(database_url)
    try:
        with make_sessions(engine).begin() as session:
            request = ApiKeyRequest(name="benchmark", role="submitter")
            return create_key(session, request, created_by=None).key
    finally:
        engine.dispose()


@contextmanager
def process(
    command: Sequence[str], environment: Mapping[str, str] | None = None, *, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the end of the block, with its output in ``log``."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, env=os.environ | (environment or {}), stdout=output, stderr=output
        )
    try:
        yield running
    except BaseException:
        print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
        raise
    finally:
        running.terminate()
        try:
            running.wait(timeout=30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_until_it_answers(
    server: subprocess.Popen[bytes], address: Address, path: str, *, seconds: float = 120
) -> None:
    """Wait until a GET of ``path`` succeeds."""

    def answers() -> bool:
        assert server.poll() is None, "the server ended"
        return _succeeds(lambda: ask_once(address, path))

    wait_until(answers, "the server's start", seconds=seconds)


def ask_once(address: Address, path: str) -> bytes:
    """Send a GET request over a new connection."""
    with Client(address) as client:
        return client.get(path)


def _succeeds(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (OSError, RuntimeError):
        return False
    return True
