"""Settings that the API and the worker share: the run database, leases, and the broker's queues."""

from __future__ import annotations

import re
from typing import Self
from urllib.parse import quote, unquote

from pydantic import Field, SecretStr, model_validator

from pmae.schema import RUN_KINDS, RunKind
from pmae.settings import LogSettings, StorageSettings
from pmae.spec.messages import with_message

WAKE_UP_QUEUES: dict[RunKind, str] = {kind: f"pmae.{kind}" for kind in RUN_KINDS}
"""Names of the Celery queues, one for each kind of run: a worker listens to those it takes."""
WAKE_UP_TASK = "pmae.doorbell"
"""Name of the one Celery task. Its message is empty: it only wakes a worker."""
BROKER_VISIBILITY_TIMEOUT_SECONDS = 86_400
"""Time after which Redis redelivers a message that was not acknowledged."""
EXAMPLE_PASSWORD = "change-me"  # noqa: S105 - not a secret
"""The database password of the example .env; no service starts with it."""
_HOST = with_message(
    r"^[\w.:-]+$", "expected a host name or address, for example postgres or 10.0.0.5"
)
_NAME = with_message(r"^[\w.-]+$", "expected letters, digits, dots, dashes and underscores")
_PASSWORD_IN_URL = re.compile(r"[\w+]+://[^:/@]*:([^@]*)@")


class ServiceSettings(LogSettings, StorageSettings):
    """Settings that the API and the worker share: the database and the broker."""

    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy URL; default: SQLite at HOME/pmae.sqlite3. "
        "PostgreSQL: postgresql+psycopg://user:password@host/name, or database_host.",
        repr=False,
    )
    database_host: str | None = Field(
        default=None,
        pattern=_HOST,
        description="Host of a PostgreSQL server, instead of database_url.",
    )
    database_port: int = Field(default=5432, ge=1, le=65_535, description="Port of database_host.")
    database_name: str = Field(
        default="pmae", pattern=_NAME, description="Name of the database at database_host."
    )
    database_user: str = Field(default="pmae", description="User name at database_host.")
    database_password: SecretStr | None = Field(
        default=None, description="Password of database_user; any text, without escaping."
    )
    broker_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="Redis-protocol broker: redis://host:port/db or redis+socket:///path",
        repr=False,
    )
    lease_seconds: float = Field(
        default=60.0,
        gt=0,
        description="A run is reclaimed when its worker has not renewed its lease for this long.",
    )
    heartbeat_seconds: float = Field(
        default=10.0, gt=0, description="Interval at which a worker renews the lease of its run."
    )
    cancel_grace_seconds: float = Field(
        default=30.0, ge=0, description="Time from SIGTERM to SIGKILL for a cancelled trainer."
    )

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        if self.database_url and self.database_host:
            raise ValueError(
                "PMAE_DATABASE_URL and PMAE_DATABASE_HOST are both set; expected only one of them"
            )
        if self.database_password and not (self.database_url or self.database_host):
            raise ValueError(
                "PMAE_DATABASE_PASSWORD is set without a database; expected PMAE_DATABASE_HOST too"
            )
        return self

    @model_validator(mode="after")
    def _no_password_of_an_example(self) -> Self:
        named = _PASSWORD_IN_URL.match(self.database_url or "")
        given = unquote(named[1]) if named else None
        if self.database_password:
            given = self.database_password.get_secret_value()
        if given == EXAMPLE_PASSWORD:
            raise ValueError(
                f"the password of the database is {EXAMPLE_PASSWORD}, the public example; set "
                "POSTGRES_PASSWORD in .env (or PMAE_DATABASE_PASSWORD) to one of your own, for "
                "example from `openssl rand -hex 24`"
            )
        return self

    @property
    def sqlalchemy_url(self) -> str:
        """URL of the database, including the password: keep it out of messages."""
        if self.database_url:
            return self.database_url
        if self.database_host is None:
            return f"sqlite:///{(self.home / 'pmae.sqlite3').absolute()}"
        # As SQLAlchemy's URL.create() does.
        user = quote(self.database_user, safe="")
        if self.database_password:
            user += f":{quote(self.database_password.get_secret_value(), safe='')}"
        host = f"[{self.database_host}]" if ":" in self.database_host else self.database_host
        return f"postgresql+psycopg://{user}@{host}:{self.database_port}/{self.database_name}"
