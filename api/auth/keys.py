"""API keys ``pmae_<id>_<secret>`` and session tokens ``pmaes_<id>_<secret>``.

This module does not use the database.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Literal, cast

_ID_BYTES = 6
_SECRET_BYTES = 32
_KEY = re.compile(r"(pmaes?)_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")

Prefix = Literal["pmae", "pmaes"]
"""Prefixes of an API key, and of the token of a session begun with one."""


@dataclass(frozen=True)
class Key:
    """An API key or a session's token.

    Attributes:
        id: public; identifies it in the database and in signed links.
        secret: 256 random bits.
        prefix: ``pmae`` for a key, ``pmaes`` for a token.
    """

    id: str
    secret: str = field(repr=False)
    prefix: Prefix = "pmae"

    @property
    def text(self) -> str:
        """The key as it is sent."""
        return f"{self.prefix}_{self.id}_{self.secret}"

    @property
    def secret_sha256(self) -> str:
        """Digest to store. A fast one is enough for 256 random bits, which no dictionary holds."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def is_of(self, secret_sha256: str) -> bool:
        """Compare with a stored digest, in constant time."""
        return hmac.compare_digest(self.secret_sha256, secret_sha256)


def mint(prefix: Prefix = "pmae") -> Key:
    """Generate a key or a session's token."""
    return Key(secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES), prefix)


def parse(text: str) -> Key | None:
    """Parse a key or token; None if it does not have the form of one."""
    match = _KEY.fullmatch(text)
    return Key(match[2], match[3], cast("Prefix", match[1])) if match else None
