"""Models of API keys, sign-in sessions, download links and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pmae.spec.messages import with_message

Role = Literal["viewer", "submitter", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "submitter", "admin")
"""In ascending order: each role includes the rights of those before it."""
_KEY_NAME = with_message(
    r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$",
    "expected 1 to 64 letters, digits and . _ @ -, of which the first is a letter or a digit",
)


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class ApiKey(_Wire):
    """API key, without its secret, which is not stored."""

    id: str = Field(description="The public part of the key.")
    name: str = Field(description="Owner of the runs that it submits, and actor in histories.")
    role: Role
    created_at: datetime
    created_by: str | None = Field(
        default=None, description="Name of the key that created it; null: the command line."
    )
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = Field(default=None, description="To the minute.")


class NewApiKey(ApiKey):
    """New API key, with its secret."""

    key: str = Field(description="Value for `Authorization: Bearer`. It is never shown again.")


class ApiKeyList(_Wire):
    """All keys by name, revoked and expired ones included."""

    items: list[ApiKey]


class ApiKeyRequest(BaseModel):
    """Request to create a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=_KEY_NAME,
        description="Name of a person or program: 1 to 64 letters, digits and . _ @ -.",
        examples=["ada"],
    )
    role: Role = Field(description="Rights of the key.", examples=["submitter"])
    expires_days: int | None = Field(
        default=None,
        ge=1,
        le=3650,
        description="Days until it expires; null: never.",
        examples=[90],
    )


class Identity(_Wire):
    """Identity of the caller."""

    name: str | None = Field(description="Name of the key; null if keys are off.")
    role: Role = Field(description="Role of the key; admin if keys are off.")


class SignInSession(_Wire):
    """Sign-in session of a browser."""

    id: str = Field(description="The public part of its token.")
    name: str = Field(description="Name of the key.")
    created_at: datetime
    expires_at: datetime = Field(description="Never later than the key's own expiry.")
    last_used_at: datetime | None = Field(default=None, description="To the minute.")
    browser: str = Field(
        description="The browser and its system; empty: unknown.", examples=["Firefox 131, Linux"]
    )
    current: bool = Field(description="True if the request was made with its token.")


class NewSignInSession(SignInSession):
    """New sign-in session, with its token."""

    token: str = Field(
        description="Value for `Authorization: Bearer`, in place of the key. It is never shown "
        "again."
    )


class SignInSessionList(_Wire):
    """Valid sessions, newest first."""

    items: list[SignInSession]


class SignInRequest(BaseModel):
    """Request to create a session."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_agent: str | None = Field(
        default=None,
        max_length=2_000,
        description="`User-Agent` of the browser; null: that of the request.",
    )


class LinkRequest(BaseModel):
    """Request for download links to the files of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_name: str | None = Field(
        default=None,
        description="A name in the checkpoint's `files`, manifest.json, or bases/<digest>/<file> "
        "of its basis; null: all in `files`.",
        examples=["model.safetensors"],
    )


class DownloadLink(_Wire):
    """Temporary link that downloads one file without a key."""

    file_name: str
    url: str = Field(description="Relative to the address of the service.")
    expires_at: datetime


class DownloadLinks(_Wire):
    """Links to the files of a checkpoint, by name."""

    items: list[DownloadLink]


class AuditEntry(_Wire):
    """Entry of the audit log: a request that changed something, or tried to."""

    id: int
    at: datetime
    actor: str | None = Field(description="Name of the key; null: no valid key.")
    role: Role | None
    operation: str = Field(description="The `operationId`; `unknown`: no such operation.")
    method: str
    path: str
    status: int = Field(description="HTTP status of the answer.")
    request_id: str = Field(description="Id of the request in the service's log.")
    address: str = Field(description="Address of the caller, as the service sees it.")


class AuditPage(_Wire):
    """A page of the audit log, newest first."""

    items: list[AuditEntry]
    next_cursor: str | None = Field(
        default=None, description="Pass as `cursor` for the next page; null on the last."
    )
