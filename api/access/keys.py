"""The keys themselves: ``pmae_<id>_<secret>``. Nothing here knows a database."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

_ID_BYTES = 6
_SECRET_BYTES = 32
_KEY = re.compile(r"pmae_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Key:
    """A key that somebody holds.

    Attributes:
        id: public: found by it, and named in signed links.
        secret: 256 random bits.
    """

    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """As its holder sends it."""
        return f"pmae_{self.id}_{self.secret}"

    @property
    def secret_sha256(self) -> str:
        """What is kept of it. No dictionary holds 256 random bits, so no slow digest is needed."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def is_of(self, secret_sha256: str) -> bool:
        """Whether it is the one whose digest was kept; takes as long for a wrong one."""
        return hmac.compare_digest(self.secret_sha256, secret_sha256)


def mint() -> Key:
    """A new key."""
    return Key(secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES))


def parse(text: str) -> Key | None:
    """A key as it was sent; None: it does not look like one."""
    match = _KEY.fullmatch(text)
    return Key(*match.groups()) if match else None
