"""Settings of the API: environment variables that start with ``PMAE_``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from pmae.settings import ServiceSettings

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names under which this machine reaches itself; always answered."""

NameList = Annotated[tuple[str, ...], NoDecode]
"""Written in the environment as names with commas between."""


class ApiSettings(ServiceSettings):
    """What the API needs besides the database, the broker and the folders."""

    api_host: str = Field(
        default="127.0.0.1", description="Address that `python -m api` listens on."
    )
    api_port: int = Field(
        default=8000, ge=0, le=65_535, description="Port that `python -m api` listens on."
    )
    allowed_hosts: NameList = Field(
        default=(),
        description="Host names that requests may use besides localhost and 127.0.0.1, with "
        "commas between. A page of another name that resolves to this machine is refused.",
    )
    allowed_origins: NameList = Field(
        default=(),
        description="Origins (https://host:port) whose pages may write besides the API's own, "
        "with commas between.",
    )
    max_body_bytes: int = Field(
        default=1_048_576, gt=0, description="Longest request body that is read."
    )
    migrate_on_start: bool | None = Field(
        default=None,
        description="Bring the database's tables up to date before serving; default: only SQLite, "
        "since a shared server is migrated once, by `python -m api.db.migrate`.",
    )
    min_free_disk_bytes: int = Field(
        default=268_435_456, ge=0, description="Less than this on the artifact disk: not ready."
    )
    broker_timeout_seconds: float = Field(
        default=2.0, gt=0, description="How long a message to the broker may take."
    )
    reconcile_seconds: float = Field(
        default=10.0, gt=0, description="Between two rounds of expiring leases and waking workers."
    )
    stream_poll_seconds: float = Field(
        default=0.5, gt=0, description="Between two looks at the database for event streams."
    )
    stream_heartbeat_seconds: float = Field(
        default=15.0, gt=0, description="A silent event stream sends a comment after this long."
    )
    reconstruction_workers: int = Field(
        default=1, ge=1, le=8, description="Reconstructions computed at the same time."
    )
    reconstruction_queue: int = Field(
        default=16, ge=1, description="Reconstructions under way or waiting; one more is refused."
    )
    reconstruction_cache: int = Field(
        default=3, ge=1, description="Loaded checkpoints kept in memory."
    )

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip().lower() for name in value.split(",") if name.strip())
        return value

    @property
    def migrates_on_start(self) -> bool:
        """Whether the API brings the tables up to date before it serves."""
        if self.migrate_on_start is None:
            return self.sqlalchemy_url.startswith("sqlite")
        return self.migrate_on_start
