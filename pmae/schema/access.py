"""Models of keys, sessions, links and the audit trail, as they go over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pmae.spec.messages import with_message

Role = Literal["viewer", "submitter", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "submitter", "admin")
"""Each may do what those before it may."""
_KEY_NAME = with_message(
    r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$",
    "valid are 1 to 64 letters, digits and . _ @ -, of which the first is a letter or a digit",
)


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class ApiKey(_Wire):
    """A key, without its secret, which nobody keeps."""

    id: str = Field(description="The public part of the key.")
    name: str = Field(description="Owner of the runs that it submits, and actor in histories.")
    role: Role
    created_at: datetime
    created_by: str | None = Field(
        default=None, description="Name of the key that made it; null: the command line."
    )
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = Field(default=None, description="To the minute.")


class NewApiKey(ApiKey):
    """A key that was just made."""

    key: str = Field(description="What `Authorization: Bearer` carries. It is never shown again.")


class ApiKeyList(_Wire):
    """All keys by name, those that are revoked or expired too."""

    items: list[ApiKey]


class ApiKeyRequest(BaseModel):
    """A key to make."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=_KEY_NAME,
        description="1 to 64 letters, digits and . _ @ - ; a person's or a program's.",
        examples=["ada"],
    )
    role: Role = Field(description="What it may do.", examples=["submitter"])
    expires_days: int | None = Field(
        default=None,
        ge=1,
        le=3650,
        description="Days until it ends; null: it does not.",
        examples=[90],
    )


class Identity(_Wire):
    """Who the service takes the caller for."""

    name: str | None = Field(description="Name of the key; null where keys are off.")
    role: Role = Field(description="admin where keys are off.")


class SignInSession(_Wire):
    """A browser that is signed in with a key."""

    id: str = Field(description="The public part of its token.")
    name: str = Field(description="Name of the key.")
    created_at: datetime
    expires_at: datetime = Field(description="Not after the key's own end.")
    last_used_at: datetime | None = Field(default=None, description="To the minute.")
    browser: str = Field(
        description="The browser and its system; empty: unknown.", examples=["Firefox 131, Linux"]
    )
    current: bool = Field(description="Whether the request itself carries its token.")


class NewSignInSession(SignInSession):
    """A session that was just begun."""

    token: str = Field(
        description="What `Authorization: Bearer` carries in the key's place. It is never shown "
        "again."
    )


class SignInSessionList(_Wire):
    """Sessions that hold, newest first."""

    items: list[SignInSession]


class SignInRequest(BaseModel):
    """A session to begin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_agent: str | None = Field(
        default=None,
        max_length=2_000,
        description="As the browser names itself; null: as the request's own `User-Agent` does.",
    )


class LinkRequest(BaseModel):
    """Which files of a checkpoint to make links for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_name: str | None = Field(
        default=None,
        description="A name in the checkpoint's `files`, manifest.json, or bases/<digest>/<file> "
        "of its basis; null: all in `files`.",
        examples=["model.safetensors"],
    )


class DownloadLink(_Wire):
    """An address that fetches one file, for a while, without a key."""

    file_name: str
    url: str = Field(description="Relative to the address of the service.")
    expires_at: datetime


class DownloadLinks(_Wire):
    """Links to the files of a checkpoint, by name."""

    items: list[DownloadLink]


class AuditEntry(_Wire):
    """A request that changed something, or tried to."""

    id: int
    at: datetime
    actor: str | None = Field(description="Name of the key; null: it had no valid one.")
    role: Role | None
    operation: str = Field(description="The `operationId`; `unknown`: there is none like that.")
    method: str
    path: str
    status: int = Field(description="What it was answered with.")
    request_id: str = Field(description="By which the service's log is searched.")
    address: str = Field(description="Where it came from, as far as the service sees.")


class AuditPage(_Wire):
    """A page of the audit trail, newest first."""

    items: list[AuditEntry]
    next_cursor: str | None = Field(
        default=None, description="Pass as `cursor` for the next page; null on the last."
    )
