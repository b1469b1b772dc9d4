"""The part of the client that is about keys, sessions, links and the audit trail."""

from __future__ import annotations

from pmae.client.connection import Connection, path_of
from pmae.schema.access import (
    ApiKey,
    ApiKeyList,
    ApiKeyRequest,
    AuditPage,
    DownloadLink,
    DownloadLinks,
    Identity,
    LinkRequest,
    NewApiKey,
    NewSignInSession,
    Role,
    SignInRequest,
    SignInSession,
    SignInSessionList,
)


class AccessMethods(Connection):
    """What :class:`~pmae.client.PmaeClient` does about access."""

    def identity(self) -> Identity:
        """Who the service takes this client for.

        Raises:
            ApiError: of status 401: the service asks for a key, or this one does not hold.
        """
        return self._read(self._send("GET", "/identity"), Identity)

    def api_keys(self) -> list[ApiKey]:
        """All keys by name; for admins."""
        return self._read(self._send("GET", "/keys"), ApiKeyList).items

    def create_key(self, name: str, role: Role, *, expires_days: int | None = None) -> NewApiKey:
        """Make a key; for admins. Its ``key`` is never shown again."""
        body = ApiKeyRequest(name=name, role=role, expires_days=expires_days)
        return self._read(self._send("POST", "/keys", json=body.model_dump()), NewApiKey)

    def revoke_key(self, name: str) -> None:
        """End a key, its sessions, and the links that it made; for admins."""
        self._send("DELETE", path_of("keys", name))

    def create_session(self, *, user_agent: str | None = None) -> NewSignInSession:
        """Begin a session of this client's key, whose ``token`` is taken wherever a key is.

        Args:
            user_agent: of the browser that is signed in; default: this client's own.
        """
        body = SignInRequest(user_agent=user_agent)
        return self._read(self._send("POST", "/sessions", json=body.model_dump()), NewSignInSession)

    def sessions(self) -> list[SignInSession]:
        """This key's sessions that hold, newest first; for admins everybody's."""
        return self._read(self._send("GET", "/sessions"), SignInSessionList).items

    def end_session(self, session_id: str | None = None) -> None:
        """End a session of this key; default: the one whose token this client sends."""
        self._send("DELETE", path_of("sessions", session_id or "current"))

    def audit(
        self, *, actor: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> AuditPage:
        """A page of what was changed and by which key, newest first; for admins."""
        params = {"actor": actor, "limit": limit, "cursor": cursor}
        return self._read(self._send("GET", "/audit", params=params), AuditPage)

    def download_links(
        self, checkpoint_id: str, file_name: str | None = None, *, base_url: str | None = None
    ) -> list[DownloadLink]:
        """Whole addresses that fetch files for some minutes without a key.

        Args:
            checkpoint_id: of the checkpoint.
            file_name: default: all of its files.
            base_url: the service's address as the reader's browser reaches it, if another.
        """
        path = path_of("checkpoints", checkpoint_id, "links")
        body = LinkRequest(file_name=file_name).model_dump()
        links = self._read(self._send("POST", path, json=body), DownloadLinks).items
        address = (base_url or self.base_url).rstrip("/")
        return [link.model_copy(update={"url": address + link.url}) for link in links]
