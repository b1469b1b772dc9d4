"""The real service on free ports in a folder of its own: broker, API, worker, dashboard."""

from __future__ import annotations

import http
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pmae.client import ApiError, PmaeClient
from pmae.errors import ClientError
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@dataclass
class RunningStack:
    """A ``pmae up`` process."""

    home: Path
    api_port: int
    dashboard_port: int
    process: subprocess.Popen[bytes]

    @property
    def api_url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def dashboard_url(self) -> str:
        """Address of the dashboard."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def client(self) -> PmaeClient:
        """A new client; close it."""
        return PmaeClient(self.api_url)

    def stop(self) -> int:
        """As Ctrl-C does; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=180)


def environment(home: Path, api_port: int, dashboard_port: int) -> dict[str, str]:
    """What ``pmae up`` and ``pmae demo`` need to stay apart from any other service."""
    settings = {
        "PMAE_HOME": str(home),
        "PMAE_API_PORT": str(api_port),
        "PMAE_DASHBOARD_PORT": str(dashboard_port),
        "OMP_NUM_THREADS": "1",
    }
    return {**os.environ, **settings}


PMAE = (sys.executable, "-c", "from pmae.cli import main; main()")
"""The command line of the tests' own installation."""


def start_stack(
    home: Path,
    settings: Mapping[str, str] | None = None,
    *,
    command: Sequence[str] = PMAE,
    cwd: Path | None = None,
) -> RunningStack:
    """Start ``pmae up`` and wait until every service works.

    Args:
        home: of its state.
        settings: further environment variables.
        command: the command line of the installation to start.
        cwd: folder to start in, instead of this process's.
    """
    ports = free_port(), free_port()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "up"],
            cwd=cwd,
            env={**environment(home, *ports), **(settings or {})},
            stdout=log,
            stderr=log,
        )
    stack = RunningStack(home, *ports, process)

    def works() -> bool:
        assert process.poll() is None, (home / "up.log").read_text()
        return "Ctrl-C stops" in (home / "up.log").read_text() and _is_ready(stack)

    try:
        wait_until(works, "the start of the service", seconds=120)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return stack


def _is_ready(stack: RunningStack) -> bool:
    try:
        with stack.client as client:
            return client.ready().ready and bool(client.workers())
    except ApiError as error:
        # Where keys are needed a stranger is not told of workers.
        return error.problem.status == http.HTTPStatus.UNAUTHORIZED
    except ClientError:
        return False
