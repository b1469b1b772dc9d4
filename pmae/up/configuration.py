"""Settings of the embedded service, and the environment of its processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from pmae.errors import StackError
from pmae.runtime.secret_files import SECRETS
from pmae.settings import (
    MAX_WORKER_NAME,
    WORKER_NAME,
    LogSettings,
    StorageSettings,
    default_worker_name,
)
from pmae.spec.messages import setting_faults

HOST = "127.0.0.1"
_SQLITE = "sqlite:///"


class UpSettings(LogSettings, StorageSettings):
    """Settings of ``pmae up`` and ``pmae demo``, whose processes listen on loopback only."""

    api_port: int = Field(default=8000, ge=1, le=65_535, description="Port of the REST API.")
    dashboard_port: int = Field(default=8501, ge=1, le=65_535, description="Port of the dashboard.")
    database_url: str | None = Field(
        default=None, description="Default: SQLite at HOME/pmae.sqlite3.", repr=False
    )
    broker_url: str | None = Field(
        default=None,
        description="A running broker; default: one is started on a Unix socket.",
        repr=False,
    )
    worker_name: str = Field(
        default_factory=default_worker_name,
        max_length=MAX_WORKER_NAME,
        pattern=WORKER_NAME,
        description="Name of the one worker; default: host and slot.",
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.api_port == self.dashboard_port:
            raise ValueError(
                f"PMAE_API_PORT and PMAE_DASHBOARD_PORT are both {self.api_port}; expected two "
                "different ports"
            )
        return self

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            StackError: a setting is not valid; the message names it.
            SettingsError: the file of a secret cannot be read.
        """
        try:
            return cls()
        except ValidationError as error:
            raise StackError("; ".join(setting_faults(error, show_values=True))) from error

    @property
    def home_dir(self) -> Path:
        """Absolute path of the folder with all state."""
        return self.home.absolute()

    @property
    def logs_dir(self) -> Path:
        """Folder with one log per service."""
        return self.home_dir / "logs"

    @property
    def working_dir(self) -> Path:
        """Working directory of the services; without Python files, which they might import."""
        return self.home_dir / "run"

    @property
    def api_url(self) -> str:
        """Address of the API."""
        return f"http://{HOST}:{self.api_port}"

    @property
    def dashboard_url(self) -> str:
        """Address of the dashboard."""
        return f"http://{HOST}:{self.dashboard_port}"

    def environment(self, broker_url: str) -> dict[str, str]:
        """Build the environment variables of every service, with absolute paths."""
        settings = {
            "PMAE_HOME": str(self.home_dir),
            "PMAE_DATA_ROOT": str(self.data_dir),
            "PMAE_ARTIFACT_ROOT": str(self.artifact_dir),
            "PMAE_API_HOST": HOST,
            "PMAE_API_PORT": str(self.api_port),
            "PMAE_DASHBOARD_HOST": HOST,
            "PMAE_DASHBOARD_PORT": str(self.dashboard_port),
            "PMAE_API_URL": self.api_url,
            "PMAE_BROKER_URL": broker_url,
            "PMAE_WORKER_NAME": self.worker_name,
        }
        if self.fashion_mnist_dir:
            settings["PMAE_FASHION_MNIST_DIR"] = str(self.fashion_mnist_dir.absolute())
        if self.database_url:
            settings["PMAE_DATABASE_URL"] = _absolute(self.database_url)
        inherited = {**os.environ, **_secret_files(settings)}
        return {**inherited, **settings, "PYTHONUNBUFFERED": "1"}


def _secret_files(settings: Mapping[str, str]) -> dict[str, str]:
    """Make the paths of secret files absolute; clear those of secrets that ``settings`` hold.

    A secret is valid as a value or as a file, but not as both.
    """
    named = {f"{name}_FILE": os.environ.get(f"{name}_FILE") for name in SECRETS}
    return {
        name: "" if name.removesuffix("_FILE") in settings else str(Path(path).absolute())
        for name, path in named.items()
        if path
    }


def _absolute(database_url: str) -> str:
    """Make a SQLite URL's path absolute, so that it does not depend on the working directory."""
    path = database_url.removeprefix(_SQLITE)
    if path == database_url or path.startswith("/") or not path:
        return database_url
    return _SQLITE + str(Path(path).absolute())
