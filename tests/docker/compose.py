"""The deployment files as Docker reads them: compose's interpolation, the Dockerfile's stages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BASE, TLS, GPU = "docker-compose.yml", "docker/compose.tls.yml", "docker/compose.gpu.yml"
REQUIRED = {"POSTGRES_PASSWORD": "3b5f"}


@cache
def has_compose() -> bool:
    """Whether the client has the plugin; ``config`` needs no engine."""
    if shutil.which("docker") is None:
        return False
    command = ["docker", "compose", "version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def clean_environment() -> dict[str, str]:
    """This process's, without what compose would read in place of an env file."""
    names = ("PMAE_", "POSTGRES_", "COMPOSE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(names)}


def run_config(env_file: str, *files: str) -> subprocess.CompletedProcess[str]:
    """``docker compose config`` of all profiles, with ``env_file`` as the text of ``.env``."""
    if not has_compose():
        pytest.skip("no docker with the compose plugin on the PATH")
    with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
        file.write(env_file)
        file.flush()
        command = ["docker", "compose", "--project-directory", str(ROOT), "--env-file", file.name]
        # Absolute names stay what they are.
        command += [part for name in (BASE, *files) for part in ("-f", str(ROOT / name))]
        command += ["--profile", "*", "config", "--format", "json"]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=clean_environment()
        )


def config(settings: Mapping[str, str] | None = None, *files: str) -> dict[str, Any]:
    """The configuration that compose makes of ``settings`` in ``.env``."""
    env_file = "".join(f"{k}='{v}'\n" for k, v in {**REQUIRED, **(settings or {})}.items())
    found = run_config(env_file, *files)
    assert found.returncode == 0, found.stderr
    made: dict[str, Any] = json.loads(found.stdout)
    return made


@dataclass(frozen=True)
class Stage:
    """A stage of the Dockerfile, with what it takes over from those it is built on.

    Attributes:
        text: its instructions, those of its bases first.
        environment: what ENV sets.
        workdir: where its command starts.
        command: what it runs.
        user: as whom.
    """

    text: str
    environment: dict[str, str]
    workdir: str
    command: list[str]
    user: str


@cache
def stages() -> dict[str, Stage]:
    """The stages of docker/Dockerfile by name."""
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    parts = re.split(r"^FROM (\S+) AS (\S+)$", dockerfile, flags=re.MULTILINE)
    texts: dict[str, str] = {}
    for base, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        texts[name] = texts.get(base, "") + body
    return {name: _stage(text) for name, text in texts.items()}


def _stage(text: str) -> Stage:
    def last(instruction: str, default: str) -> str:
        found: list[str] = re.findall(rf"^{instruction} (.+)$", text, re.MULTILINE)
        return [default, *found][-1]

    pairs = " ".join(re.findall(r"^ENV (.+)$", text, re.MULTILINE)).split()
    return Stage(
        text,
        dict(pair.split("=", 1) for pair in pairs),
        last("WORKDIR", "/"),
        json.loads(last("CMD", "[]")),
        last("USER", "root"),
    )
