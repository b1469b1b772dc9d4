"""The dashboard as it is served: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.ports import free_port
from tests.support.waiting import wait_until

STOP_SECONDS = 10


@dataclass(frozen=True)
class ServedDashboard:
    """A dashboard that listens on the loopback."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def served_dashboard(
    folder: Path, settings: Mapping[str, str], *, port: int | None = None
) -> Iterator[ServedDashboard]:
    """Start it as the supervisor does, from a folder that has nothing to do with the project.

    At the end it is stopped as a service is, and must stop in time and without a traceback.
    """
    port = port or free_port()
    log_path = folder / "dashboard.log"
    environment = {**os.environ, "PMAE_DASHBOARD_PORT": str(port), **settings}
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"

    def works() -> bool:
        assert process.poll() is None, log_path.read_text()
        return _is_healthy(url)

    try:
        wait_until(works, "the dashboard's start")
        yield ServedDashboard(url, port, process, log_path)
    except BaseException:
        process.kill()
        raise
    finally:
        process.terminate()
        process.wait(timeout=STOP_SECONDS)
    assert "Traceback" not in log_path.read_text()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_stcore/health", trust_env=False).is_success
    except httpx.TransportError:
        return False
