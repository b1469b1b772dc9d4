"""The same real server, asking for keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import update

from api.auth.service import create_key
from api.db.tables import ApiKeyRow, SignInSessionRow
from api.settings import ApiSettings
from pmae.client import PmaeClient
from pmae.schema.access import ApiKeyRequest, NewApiKey, NewSignInSession, Role
from tests.api.live import LiveApi, live_api


@dataclass(frozen=True)
class LockedApi:
    """A server that asks for keys."""

    live: LiveApi

    def key(self, name: str, role: Role = "viewer", **columns: float) -> NewApiKey:
        """A new key, then columns of its row changed."""
        with self.live.sessions.begin() as session:
            made = create_key(session, ApiKeyRequest(name=name, role=role), created_by=None)
        if columns:
            with self.live.sessions.begin() as session:
                session.execute(update(ApiKeyRow).where(ApiKeyRow.name == name).values(**columns))
        return made

    def headers(self, name: str, role: Role = "viewer", **columns: float) -> dict[str, str]:
        """Of a request with a new key."""
        return bearer(self.key(name, role, **columns).key)

    def session(self, name: str, role: Role = "viewer", **columns: float) -> NewSignInSession:
        """A new session of a new key, then columns of its row changed."""
        with self.client(name, role) as client:
            made = client.create_session()
        if columns:
            ours = SignInSessionRow.id == made.id
            with self.live.sessions.begin() as session:
                session.execute(update(SignInSessionRow).where(ours).values(**columns))
        return made

    def session_headers(self, name: str, **columns: float) -> dict[str, str]:
        """Of a request with a new session of an admin's key."""
        return bearer(self.session(name, "admin", **columns).token)

    def client(self, name: str, role: Role = "viewer") -> PmaeClient:
        """A client with a new key."""
        return PmaeClient(self.live.url, api_key=self.key(name, role).key)


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def locked_settings(api_settings: ApiSettings) -> ApiSettings:
    unlimited = {"writes_per_minute": 0, "failed_keys_per_minute": 0}
    return api_settings.model_copy(update={"require_keys": True, **unlimited})


@pytest.fixture
def locked(locked_settings: ApiSettings) -> Iterator[LockedApi]:
    with live_api(locked_settings) as served:
        yield LockedApi(served)
