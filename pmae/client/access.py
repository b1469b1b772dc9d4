"""Client methods for keys, sessions, download links and the audit log."""

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
    """Methods of :class:`~pmae.client.PmaeClient` for access."""

    def identity(self) -> Identity:
        """Return the key's name and role, as the service sees this client.

        Raises:
            ApiError: status 401: the service requires a key, or this one is not valid.
        """
        return self._read(self._send("GET", "/identity"), Identity)

    def api_keys(self) -> list[ApiKey]:
        """List all keys by name; for admins."""
        return self._read(self._send("GET", "/keys"), ApiKeyList).items

    def create_key(self, name: str, role: Role, *, expires_days: int | None = None) -> NewApiKey:
        """Create a key; for admins. Its ``key`` is never shown again."""
        body = ApiKeyRequest(name=name, role=role, expires_days=expires_days)
        return self._read(self._send("POST", "/keys", json=body.model_dump()), NewApiKey)

    def revoke_key(self, name: str) -> None:
        """Revoke a key, its sessions, and the links made with it; for admins."""
        self._send("DELETE", path_of("keys", name))

    def create_session(self, *, user_agent: str | None = None) -> NewSignInSession:
        """Create a session of this client's key; its ``token`` is accepted in place of the key.

        Args:
            user_agent: User-Agent of the browser that signs in; default: this client's own.
        """
        body = SignInRequest(user_agent=user_agent)
        return self._read(self._send("POST", "/sessions", json=body.model_dump()), NewSignInSession)

    def sessions(self) -> list[SignInSession]:
        """List this key's valid sessions, newest first; for admins those of all keys."""
        return self._read(self._send("GET", "/sessions"), SignInSessionList).items

    def end_session(self, session_id: str | None = None) -> None:
        """End a session of this key; default: the one whose token this client sends."""
        self._send("DELETE", path_of("sessions", session_id or "current"))

    def audit(
        self, *, actor: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> AuditPage:
        """Return a page of the audit log, newest first; for admins."""
        params = {"actor": actor, "limit": limit, "cursor": cursor}
        return self._read(self._send("GET", "/audit", params=params), AuditPage)

    def download_links(
        self, checkpoint_id: str, file_name: str | None = None, *, base_url: str | None = None
    ) -> list[DownloadLink]:
        """Create temporary links, full URLs, that download files without a key.

        Args:
            checkpoint_id: id of the checkpoint.
            file_name: one of its files; default: all of them.
            base_url: the service's address as the reader's browser reaches it; default: this
                client's.
        """
        path = path_of("checkpoints", checkpoint_id, "links")
        body = LinkRequest(file_name=file_name).model_dump()
        links = self._read(self._send("POST", path, json=body), DownloadLinks).items
        address = (base_url or self.base_url).rstrip("/")
        return [link.model_copy(update={"url": address + link.url}) for link in links]
