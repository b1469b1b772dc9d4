"""A lab's deployment on a real engine: `docker compose` of this tree, in a project of its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmae.client import PmaeClient
from pmae.errors import ClientError
from pmae.schema import TERMINAL_STATES, Run
from pmae.spec import CheckpointSpec
from tests.docker.compose import BASE, ROOT, TLS, clean_environment
from tests.support.ports import free_port
from tests.support.specs import TINY
from tests.support.waiting import wait_until

DOMAIN = "pmae.lab.example"
WEIGHTS = "model.safetensors"
LONG = TINY.model_copy(
    update={
        "name": "long",
        "epochs": 1_500,
        "log_every_steps": 50,
        "checkpoint": CheckpointSpec(every_epochs=750, latest_seconds=2),
    }
)
"""Trains for minutes, and is the same wherever and however often it was interrupted."""
_KEY = re.compile(r"pmae_[0-9a-f]+_[A-Za-z0-9_-]+")


class Lab:
    """One deployment. Its ports are on the loopback, its volumes go with :meth:`remove`.

    Args:
        folder: for `.env`, data and backups.
        project: of compose: prefixes containers, networks and volumes.
        settings: further lines of `.env`.
    """

    def __init__(self, folder: Path, project: str, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.project = project
        self.key: str | None = None
        self.api_port, self.dashboard_port, self.https_port = free_port(), free_port(), free_port()
        self.files: tuple[str, ...] = (BASE,)
        for name, owner in (("data", 0), ("backup", 10001)):
            (folder / name).mkdir()
            os.chown(folder / name, owner, owner)
        self.password = secrets.token_hex(24)
        lines = {
            "POSTGRES_PASSWORD": self.password,
            "PMAE_DATA_ROOT": str(folder / "data"),
            "PMAE_BACKUP_DIR": str(folder / "backup"),
            "PMAE_API_PORT": str(self.api_port),
            "PMAE_DASHBOARD_PORT": str(self.dashboard_port),
            "PMAE_PUBLIC_API_URL": self.api_url,
            "PMAE_DOMAIN": DOMAIN,
            "PMAE_TLS_BIND_ADDRESS": "127.0.0.1",
            "PMAE_HTTP_PORT": str(free_port()),
            "PMAE_HTTPS_PORT": str(self.https_port),
            "PMAE_BUILD_NETWORK": os.environ.get("PMAE_BUILD_NETWORK", "default"),
            **settings,
        }
        self._env_file = folder / "lab.env"
        self._env_file.write_text("".join(f"{k}='{v}'\n" for k, v in lines.items()))

    @property
    def api_url(self) -> str:
        """Address of the API on this machine."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def dashboard_url(self) -> str:
        """Address of the dashboard on this machine."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    def use(self, *files: str) -> None:
        """Take these compose files beside the first at the next :meth:`up`."""
        self.files = (BASE, *files)

    def compose(
        self,
        *arguments: str,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
        seconds: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose`` with these arguments."""
        files = [part for name in self.files for part in ("-f", str(ROOT / name))]
        command = ["docker", "compose", "-p", self.project, "--project-directory", str(ROOT)]
        done = subprocess.run(
            [*command, "--env-file", str(self._env_file), *files, *arguments],
            env={**clean_environment(), **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def up(self, *arguments: str) -> None:
        """Start what is not running, and wait until all of it is healthy."""
        self.compose("up", "-d", "--wait", "--wait-timeout", "300", *arguments)

    def remove(self) -> None:
        """Remove containers, networks and volumes, the proxy's too."""
        self.use(TLS)
        self.compose("--profile", "*", "down", "-v", "--timeout", "10", "--remove-orphans")

    def pmae(self, *arguments: str, service: str = "api") -> str:
        """Run ``pmae`` in a one-shot container; what it printed."""
        return self.compose("run", "--rm", "-T", service, "pmae", *arguments).stdout

    def make_key(self, name: str, role: str = "admin") -> str:
        """Make an API key as the README says."""
        (key,) = _KEY.findall(self.pmae("keys", "create", name, "--role", role))
        return str(key)

    def client(self) -> PmaeClient:
        """A client with the admin's key; close it."""
        return PmaeClient(self.api_url, api_key=self.key)

    def containers(self, service: str) -> list[str]:
        """Ids of a service's containers, ended ones too."""
        return self.compose("ps", "-a", "-q", service).stdout.split()

    def worker_container(self, worker: str) -> str:
        """The container of a worker, which is named after its host."""
        (found,) = [
            container
            for container in self.containers("worker")
            if worker.startswith(str(inspect(container)["Config"]["Hostname"]))
        ]
        return found

    def wait_for_end(self, client: PmaeClient, run_id: str, seconds: float = 600) -> Run:
        """A run when it has ended."""

        def ended() -> bool:
            try:
                return client.run(run_id).state in TERMINAL_STATES
            except ClientError:
                return False

        wait_until(ended, f"the end of {run_id}", seconds=seconds, every=1)
        return client.run(run_id)


def inspect(container: str) -> dict[str, Any]:
    """What the engine knows of a container or an image."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", container))
    return found[0]


def docker(*arguments: str) -> str:
    """Run a command of the engine; what it printed."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {arguments}: {done.stderr}"
    return done.stdout


def shell(container: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a container."""
    return subprocess.run(
        ["docker", "exec", container, "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )


def progress(client: PmaeClient, run_id: str) -> int:
    """Newest step that stands in SQL; -1 while the service does not answer."""
    try:
        return client.run(run_id).progress.done or 0
    except ClientError:
        return -1


def trains(client: PmaeClient, run_id: str, *, lease: int = 1) -> bool:
    """Whether a run of at least so many starts gets further while this looks."""
    before = progress(client, run_id)
    try:
        wait_until(
            lambda: progress(client, run_id) not in (before, -1), "a step", seconds=5, every=0.2
        )
        run = client.run(run_id)
    except (AssertionError, ClientError):
        return False
    return run.state == "running" and run.lease_number >= lease


def points(client: PmaeClient, run_id: str) -> Sequence[str]:
    """Every point of every metric, without when it was computed."""
    text = "".join(client.metrics_csv([run_id]))
    head, *lines = text.splitlines()
    columns = head.split(",")
    kept = [columns.index(name) for name in ("name", "step", "epoch", "value")]
    return sorted(",".join(line.split(",")[index] for index in kept) for line in lines)


def assert_same(admin: PmaeClient, run_id: str, reference_id: str) -> None:
    """No point is lost or doubled, and the weights are the same to the bit."""
    assert points(admin, run_id) == points(admin, reference_id)
    weights = [
        {ck.name: ck.files[WEIGHTS].sha256 for ck in admin.checkpoints(found, kind="kept")}
        for found in (run_id, reference_id)
    ]
    assert weights[0] == weights[1] != {}
