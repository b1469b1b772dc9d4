"""A real service that asks for keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.auth.service import create_key, revoke_key
from api.db.migrate import upgrade
from api.settings import ApiSettings
from pmae.client import PmaeClient
from pmae.schema.access import ApiKeyRequest, NewApiKey, Role
from tests.api.live import LiveApi, live_api


@contextmanager
def locked_service(folder: Path) -> Iterator[LiveApi]:
    """Serve it from a home below ``folder``, without a broker."""
    settings = ApiSettings(
        home=folder / "home",
        require_keys=True,
        broker_url=f"redis+socket://{folder}/no-broker.sock",
        broker_timeout_seconds=0.1,
        writes_per_minute=0,
        failed_keys_per_minute=0,
    )
    upgrade(settings.sqlalchemy_url)
    with live_api(settings) as live:
        yield live


def make_key(live: LiveApi, name: str, role: Role = "viewer") -> NewApiKey:
    """A new key; one of the same name that ended is replaced."""
    with live.sessions.begin() as session:
        request = ApiKeyRequest(name=name, role=role)
        return create_key(session, request, created_by=None)


def end_key(live: LiveApi, name: str) -> None:
    """Revoke a key, as the command does."""
    with live.sessions.begin() as session:
        revoke_key(session, name)


def sign_in_token(live: LiveApi, name: str, role: Role = "viewer") -> str:
    """The token of a new session of a new key."""
    with PmaeClient(live.url, api_key=make_key(live, name, role).key) as client:
        return client.create_session().token
