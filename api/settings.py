"""Settings of the API: environment variables that start with ``PMAE_``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from api.db.settings import ServiceSettings
from pmae.runtime.loopback import is_loopback

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
    require_keys: bool | None = Field(
        default=None,
        description="Whether requests need an API key; default: unless the service is embedded: "
        "SQLite, and reached from this machine only (PMAE_API_HOST, PMAE_ALLOWED_HOSTS).",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="Signs download links; the same for all API processes. Default, and if empty: "
        "made once and kept in HOME/link-secret.",
    )
    link_seconds: int = Field(
        default=600, ge=1, le=86_400, description="How long a signed download link holds."
    )
    session_days: int = Field(
        default=30,
        ge=1,
        le=365,
        description="How long a browser stays signed in, unless its key ends before.",
    )
    writes_per_minute: int = Field(
        default=600,
        ge=0,
        description="Most requests that change something, for each key; 0: no limit. Not where "
        "keys are off.",
    )
    failed_keys_per_minute: int = Field(
        default=60,
        ge=0,
        description="Most keys and links that do not hold, for each address; 0: no limit.",
    )
    max_body_bytes: int = Field(
        default=1_048_576, gt=0, description="Longest request body that is read."
    )
    max_upload_bytes: int = Field(
        default=33_554_432,
        gt=0,
        description="The same for requests that may carry images: those for reconstructions. "
        "Base64 makes three bytes of a file four of the body.",
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
    idempotency_retention_days: float = Field(
        default=30.0,
        gt=0,
        description="How long a submission's Idempotency-Key is remembered; after that it makes "
        "another run.",
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

    @model_validator(mode="after")
    def _keys_are_not_off_for_others(self) -> Self:
        if self.require_keys is False and self._is_exposed:
            raise ValueError(
                "PMAE_REQUIRE_KEYS=false is refused: without keys everybody who reaches the "
                f"service may do everything, and with PMAE_API_HOST={self.api_host} and "
                f"PMAE_ALLOWED_HOSTS={','.join(self.allowed_hosts)} it is to be reached by others. "
                "Leave it out and make keys (`pmae keys create`), or listen on 127.0.0.1 and "
                "allow no other host"
            )
        return self

    @property
    def _is_exposed(self) -> bool:
        """Whether it is to be reached under a name that is not this machine's own."""
        return not all(map(is_loopback, (self.api_host, *self.allowed_hosts)))

    @property
    def keys_required(self) -> bool:
        """Whether requests need an API key."""
        if self.require_keys is None:
            return self._is_exposed or not self.sqlalchemy_url.startswith("sqlite")
        return self.require_keys

    @property
    def migrates_on_start(self) -> bool:
        """Whether the API brings the tables up to date before it serves."""
        if self.migrate_on_start is None:
            return self.sqlalchemy_url.startswith("sqlite")
        return self.migrate_on_start
