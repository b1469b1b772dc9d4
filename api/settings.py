"""Settings of the API: environment variables that start with ``PMAE_``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from api.db.settings import ServiceSettings
from pmae.runtime.loopback import is_loopback

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names by which this machine reaches itself; always allowed."""

NameList = Annotated[tuple[str, ...], NoDecode]
"""In the environment: names separated by commas."""


class ApiSettings(ServiceSettings):
    """Settings of the API, besides the database, the broker and the folders."""

    api_host: str = Field(
        default="127.0.0.1", description="Address that `python -m api` listens on."
    )
    api_port: int = Field(
        default=8000, ge=0, le=65_535, description="Port that `python -m api` listens on."
    )
    allowed_hosts: NameList = Field(
        default=(),
        description="Host names that requests may use besides localhost and 127.0.0.1, separated "
        "by commas. Others are refused, even if they resolve to this machine.",
    )
    allowed_origins: NameList = Field(
        default=(),
        description="Origins (https://host:port) whose pages may write, besides the API's own, "
        "separated by commas.",
    )
    require_keys: bool | None = Field(
        default=None,
        description="Require an API key; default: true unless the service is embedded: with "
        "SQLite, and open to this machine only (PMAE_API_HOST, PMAE_ALLOWED_HOSTS).",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="Secret that signs download links, the same for all API processes. Default, "
        "also if empty: generated once and stored in HOME/link-secret.",
    )
    link_seconds: int = Field(
        default=600, ge=1, le=86_400, description="Time until a signed download link expires."
    )
    session_days: int = Field(
        default=30,
        ge=1,
        le=365,
        description="Time until a browser's session expires, unless its key ends before.",
    )
    writes_per_minute: int = Field(
        default=600,
        ge=0,
        description="Maximum number of requests that change something, for each key; 0: no "
        "limit. Not applied while keys are off.",
    )
    failed_keys_per_minute: int = Field(
        default=60,
        ge=0,
        description="Maximum number of invalid keys and links, for each address; 0: no limit.",
    )
    max_body_bytes: int = Field(
        default=1_048_576, gt=0, description="Maximum length of a request body."
    )
    max_upload_bytes: int = Field(
        default=33_554_432,
        gt=0,
        description="Maximum length of the body of a reconstruction, which may contain images. "
        "Base64 needs four bytes for three bytes of a file.",
    )
    migrate_on_start: bool | None = Field(
        default=None,
        description="Migrate the database at the start; default: only SQLite, since a shared "
        "server is migrated once, by `python -m api.db.migrate`.",
    )
    min_free_disk_bytes: int = Field(
        default=268_435_456,
        ge=0,
        description="Minimum free space on the artifact disk; with less, not ready.",
    )
    broker_timeout_seconds: float = Field(
        default=2.0, gt=0, description="Timeout of a message to the broker."
    )
    reconcile_seconds: float = Field(
        default=10.0, gt=0, description="Interval at which leases expire and workers are woken."
    )
    idempotency_retention_days: float = Field(
        default=30.0,
        gt=0,
        description="Time for which an Idempotency-Key is stored; after that it queues another "
        "run.",
    )
    stream_poll_seconds: float = Field(
        default=0.5, gt=0, description="Interval at which event streams query the database."
    )
    stream_heartbeat_seconds: float = Field(
        default=15.0, gt=0, description="Interval of comments in an event stream without events."
    )
    reconstruction_workers: int = Field(
        default=1, ge=1, le=8, description="Number of reconstructions computed in parallel."
    )
    reconstruction_queue: int = Field(
        default=16,
        ge=1,
        description="Maximum number of reconstructions in progress or waiting; more are refused.",
    )
    reconstruction_cache: int = Field(
        default=3, ge=1, description="Number of loaded checkpoints kept in memory."
    )

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip().lower() for name in value.split(",") if name.strip())
        return value

    @model_validator(mode="after")
    def _keys_are_not_off_for_others(self) -> Self:
        if self.require_keys is False and self._is_exposed:
            raise ValueError(
                "PMAE_REQUIRE_KEYS=false is refused: without keys, everybody who can reach the "
                f"service may do everything, and with PMAE_API_HOST={self.api_host} and "
                f"PMAE_ALLOWED_HOSTS={','.join(self.allowed_hosts)} other machines can. "
                "Omit it and create keys (`pmae keys create`), or listen on 127.0.0.1 and "
                "allow no other host"
            )
        return self

    @property
    def _is_exposed(self) -> bool:
        """True if the service has an address or host name that other machines can reach."""
        return not all(map(is_loopback, (self.api_host, *self.allowed_hosts)))

    @property
    def keys_required(self) -> bool:
        """True if requests need an API key."""
        if self.require_keys is None:
            return self._is_exposed or not self.sqlalchemy_url.startswith("sqlite")
        return self.require_keys

    @property
    def migrates_on_start(self) -> bool:
        """True if the API migrates the database at the start."""
        if self.migrate_on_start is None:
            return self.sqlalchemy_url.startswith("sqlite")
        return self.migrate_on_start
