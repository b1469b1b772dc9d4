"""Settings of storage and logging, for every process: variables that begin with ``PMAE_``."""

from __future__ import annotations

import os
import re
import socket
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pmae.errors import SettingsError
from pmae.runs.layout import BASES_FOLDER
from pmae.runtime.logging import LogFormat
from pmae.runtime.memory import available_bytes
from pmae.runtime.secret_files import SecretFiles
from pmae.spec.messages import setting_faults, with_message

MAX_DEFAULT_DATA_WORKERS = 8
_Settings = TypeVar("_Settings", bound=BaseSettings)
MAX_WORKER_NAME = 200
WORKER_NAME = with_message(
    r"^[A-Za-z0-9][A-Za-z0-9._:+-]*$",
    "a worker's name is letters, digits, '.', '_', ':', '+' or '-', and begins with a letter or a "
    "digit",
)
"""Pattern of worker names: each is part of an address of the API, and of a file's name."""
_GPU_NAME_LENGTH = 12
"""As much as tells a GPU from the others of its machine: GPU-5e1e5b7f of a long id."""


def visible_gpus() -> list[str]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` names; none without it.

    As CUDA reads it: a negative number hides itself and all that follows.
    """
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return list(takewhile(lambda name: not name.startswith("-"), filter(None, names)))


def default_worker_name() -> str:
    """Host and slot: ``lab-0``, or ``lab-2-3`` where ``CUDA_VISIBLE_DEVICES`` is ``2,3``.

    It is the same after a restart, so that a worker knows what it ran before it was killed.
    """
    slot = "-".join(name[:_GPU_NAME_LENGTH] for name in visible_gpus()) or "0"
    return re.sub(r"[^A-Za-z0-9._+-]", "-", f"{socket.gethostname()}-{slot}")[:MAX_WORKER_NAME]


def load_settings(kind: type[_Settings]) -> _Settings:
    """Read settings from the environment.

    Args:
        kind: of the process.

    Raises:
        SettingsError: variables have no valid values. It names each one and shows no value, since
            that may be a secret.
    """
    try:
        return kind()
    except ValidationError as error:
        raise SettingsError("; ".join(setting_faults(error))) from None


def platform_cache() -> Path:
    """Folder of what can be fetched again, as the XDG base directory specification has it."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".cache"


class EnvironmentSettings(BaseSettings):
    """Settings that come from ``PMAE_...``, and secrets also from the files of ``PMAE_..._FILE``.

    An empty variable counts as not given: the compose file passes so what .env leaves open.
    """

    model_config = SettingsConfigDict(
        env_prefix="PMAE_", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what the program gives, then the environment, then files of secrets."""
        return init_settings, env_settings, SecretFiles(settings_cls)


class StorageSettings(EnvironmentSettings):
    """Folders on this machine. All of the service's state lies under ``home`` by default."""

    home: Path = Field(default=Path("var"), description="Folder of all state.")
    data_root: Path | None = Field(
        default=None, description="Folder of the data sets; default: HOME/data."
    )
    artifact_root: Path | None = Field(
        default=None, description="Folder of runs and bases; default: HOME/artifacts."
    )
    cache: Path | None = Field(
        default=None,
        description="Folder of the checkpoints that pmae.load has downloaded; default: pmae in "
        "XDG_CACHE_HOME, or in ~/.cache.",
    )
    fashion_mnist_dir: Path | None = Field(
        default=None, description="A folder that holds Fashion-MNIST's four idx files."
    )
    data_memory_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Image files that take more than this in memory are streamed while training; "
        "default: half of what is available.",
    )
    data_workers: int | None = Field(
        default=None,
        ge=0,
        le=256,
        description="Processes that decode image files, 0: none; default: one for each core but "
        "one, at least 1 and at most 8, and none for a few files.",
    )

    @property
    def data_dir(self) -> Path:
        """Folder of the data sets, absolute."""
        return (self.data_root or self.home / "data").absolute()

    @property
    def artifact_dir(self) -> Path:
        """Folder of runs and bases, absolute."""
        return (self.artifact_root or self.home / "artifacts").absolute()

    @property
    def cache_dir(self) -> Path:
        """Folder of downloaded checkpoints, absolute."""
        return (self.cache or platform_cache() / "pmae").absolute()

    @property
    def data_memory(self) -> int:
        """Bytes that the images may take in memory."""
        if self.data_memory_bytes is None:
            return available_bytes() // 2
        return self.data_memory_bytes

    @property
    def default_data_workers(self) -> int:
        """Default number of processes that decode image files: one per core but one, at most 8."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return min(max((cores or 1) - 1, 1), MAX_DEFAULT_DATA_WORKERS)

    @property
    def runs_dir(self) -> Path:
        """Folder with one sub-folder for each run."""
        return self.artifact_dir / "runs"

    @property
    def bases_dir(self) -> Path:
        """Folder with one sub-folder for each fitted basis."""
        return self.artifact_dir / BASES_FOLDER


class LogSettings(EnvironmentSettings):
    """Log format of the service's processes."""

    log_format: LogFormat = Field(
        default="text",
        description="How API, worker and `pmae up` log: text for people, or json: one object a "
        "line, with the run, the lease and the request it is about.",
    )
