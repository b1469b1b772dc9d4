"""Origin under which a browser sees this dashboard, and its session cookie.

No name is configured: the ``Host`` header of a request names the site, so that ``localhost``,
``127.0.0.1`` and a name behind a proxy are separate sites with separate sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from starlette.responses import Response

_COOKIE = "pmae_session"
_SECURE_PREFIX = "__Host-"
"""Browsers accept and send such a cookie only over https, and only for this host."""


@dataclass(frozen=True)
class Site:
    """The dashboard as one browser reaches it.

    Attributes:
        host: name and port, as in the ``Host`` header.
        is_https: True if the browser uses https, also to a proxy.
    """

    host: str
    is_https: bool

    @property
    def cookie(self) -> str:
        """Name of the session's cookie. Cookies ignore ports, so the name holds the port."""
        port = self.host.rpartition("]")[2].rpartition(":")[2] if ":" in self.host else ""
        name = f"{_COOKIE}_{port}" if port.isdecimal() else _COOKIE
        return _SECURE_PREFIX + name if self.is_https else name

    def owns(self, origin: str) -> bool:
        """Return True if a page of this origin is the dashboard's own.

        An https page of the same host is, even if a proxy does not report https: it needs the
        host's certificate.
        """
        own = [f"https://{self.host}"]
        if not self.is_https:
            own.append(f"http://{self.host}")
        return origin.lower() in own

    def token(self, cookies: Mapping[str, str]) -> str | None:
        """Return the session's token from the cookies of a request."""
        secure = Site(self.host, is_https=True).cookie
        return cookies.get(secure) or cookies.get(self.cookie)

    def keep(self, response: Response, token: str, until: datetime) -> None:
        """Set the cookie with a session's token.

        Lax, not strict, so that a link in a mail opens the page instead of the sign-in form.
        """
        seconds = max(0, int((until - datetime.now(UTC)).total_seconds()))
        response.set_cookie(
            self.cookie,
            token,
            max_age=seconds,
            path="/",
            secure=self.is_https,
            httponly=True,
            samesite="lax",
        )

    def forget(self, response: Response) -> None:
        """Delete the cookie."""
        for is_https in {False, self.is_https}:
            name = Site(self.host, is_https=is_https).cookie
            response.delete_cookie(name, path="/", secure=is_https, httponly=True, samesite="lax")


def site_of(headers: Mapping[str, str], scheme: str = "http") -> Site:
    """Return the origin that a request was sent to.

    ``X-Forwarded-Proto`` is trusted from every sender, since https only makes checks stricter.

    Args:
        headers: headers of the request; names in any case.
        scheme: scheme of the connection, as the server sees it.
    """
    host = headers.get("host", "").lower()
    forwarded = headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    is_https = (
        scheme in ("https", "wss")
        or forwarded == "https"
        or headers.get("origin", "").lower() == f"https://{host}"
    )
    return Site(host, is_https)


def safe_next(address: str) -> str:
    """Return ``address`` if it is a page of this dashboard, else ``/``."""
    odd = "\\" in address or not address.isprintable() or len(address) > 2_000
    if odd or not address.startswith("/") or address.startswith(("//", "/auth/")):
        return "/"
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc else address
