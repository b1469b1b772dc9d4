"""Each container's command starts where its image starts it, with the settings of compose.

Without an engine: paths, ports, database and broker are the test's, all else is as in a container.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from tests.docker.compose import ROOT, config, stages
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.stack


class Containers:
    """The services' commands as processes of this machine.

    Args:
        folder: for state and data.
        database: address of an empty database.
        broker: address.
    """

    def __init__(self, folder: Path, database: str, broker: str) -> None:
        self.folder = folder
        self.services: dict[str, Any] = config()["services"]
        self.ports = {"8000": str(free_port()), "8501": str(free_port())}
        url = make_url(database)
        self._own = {
            "PMAE_DATABASE_HOST": str(url.host),
            "PMAE_DATABASE_PORT": str(url.port),
            "PMAE_DATABASE_NAME": str(url.database),
            "PMAE_DATABASE_USER": str(url.username),
            "PMAE_BROKER_URL": broker,
            "PMAE_API_HOST": "127.0.0.1",
            "PMAE_DASHBOARD_HOST": "127.0.0.1",
            "PMAE_API_URL": f"http://127.0.0.1:{self.ports['8000']}",
        }
        for name in ("state", "data", "tmp"):
            (folder / name).mkdir()
        # As in the image: no code in it, and not writable.
        (folder / "workdir").mkdir(mode=0o555)

    def environment(self, service: str) -> dict[str, str]:
        """What the container of a service finds, and nothing of this process's own."""
        stage = stages()["dashboard" if service == "dashboard" else "service"]
        compose = {k: v or "" for k, v in self.services[service]["environment"].items()}
        found = {**stage.environment, **compose}
        found = {k: self._here(v) for k, v in found.items() if not k.startswith("PIP_")}
        found |= {k: v for k, v in self._own.items() if k in compose}
        kept = ("PATH", "LANG", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")
        return {k: os.environ[k] for k in kept if k in os.environ} | found

    def _here(self, value: str) -> str:
        value = self.ports.get(value, value)
        value = re.sub(r"^/var/lib/pmae", str(self.folder / "state"), value)
        value = re.sub(r"^/data", str(self.folder / "data"), value)
        return re.sub(r"^/tmp", str(self.folder / "tmp"), value)

    def run(self, service: str, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command of a service to its end."""
        return subprocess.run(
            self._command(command),
            env=self.environment(service),
            cwd=self.folder / "workdir",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    @contextmanager
    def started(self, service: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        """A service that runs until the block ends, and then ends by SIGTERM."""
        log = self.folder / f"{service}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self._command(command),
                env=self.environment(service),
                cwd=self.folder / "workdir",
                stdout=file,
                stderr=file,
            )
        try:
            self._wait_for_health(service, process, log)
            yield process
        finally:
            process.terminate()
            status = process.wait(timeout=60)
        assert status in (0, -15), log.read_text()

    def _command(self, command: list[str]) -> list[str]:
        assert command[:2] == ["python", "-m"] or command[:2] == ["python", "-c"]
        return [sys.executable, *command[1:]]

    def _wait_for_health(self, service: str, process: subprocess.Popen[bytes], log: Path) -> None:
        kind, *command = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        check = [re.sub(r":(8000|8501)\b", lambda m: ":" + self.ports[m[1]], c) for c in command]

        def healthy() -> bool:
            assert process.poll() is None, log.read_text()
            return self.run(service, check).returncode == 0

        wait_until(healthy, f"the health of {service}: {log.read_text()}", seconds=120)


@pytest.fixture
def containers(tmp_path: Path, postgres: str, broker_url: str) -> Iterator[Containers]:
    """An empty database of a name of the test's own, and a broker."""
    name = f"compose_{os.getpid()}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield Containers(tmp_path, postgres.replace("/postgres", f"/{name}"), broker_url)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_every_service_starts_and_is_healthy(containers: Containers) -> None:
    migrate = containers.services["migrate"]["command"]
    migrated = containers.run("migrate", migrate)
    assert migrated.returncode == 0, migrated.stderr
    api, dashboard = stages()["service"].command, stages()["dashboard"].command
    with (
        containers.started("api", api),
        containers.started("worker", containers.services["worker"]["command"]),
        containers.started("dashboard", dashboard),
    ):
        assert list((containers.folder / "workdir").iterdir()) == []
    # What was running is healthy no more.
    kind, *check = containers.services["worker"]["healthcheck"]["test"]
    assert kind == "CMD"
    assert containers.run("worker", check).returncode != 0


def test_no_service_finds_code_in_its_working_directory() -> None:
    for name in ("service", "dashboard"):
        assert not (ROOT / stages()[name].workdir.lstrip("/")).exists()
