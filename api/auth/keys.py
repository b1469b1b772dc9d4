"""Secrets of callers: keys ``pmae_<id>_<secret>``, session tokens ``pmaes_<id>_<secret>``.

Nothing here knows a database.
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
"""Of an API key, and of the token of a session that was signed in with one."""


@dataclass(frozen=True)
class Key:
    """A key, or a session's token, that somebody holds.

    Attributes:
        id: public: found by it, and named in signed links.
        secret: 256 random bits.
        prefix: which of the two it is.
    """

    id: str
    secret: str = field(repr=False)
    prefix: Prefix = "pmae"

    @property
    def text(self) -> str:
        """As its holder sends it."""
        return f"{self.prefix}_{self.id}_{self.secret}"

    @property
    def secret_sha256(self) -> str:
        """What is kept of it. No dictionary holds 256 random bits, so no slow digest is needed."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def is_of(self, secret_sha256: str) -> bool:
        """Whether it is the one whose digest was kept; takes as long for a wrong one."""
        return hmac.compare_digest(self.secret_sha256, secret_sha256)


def mint(prefix: Prefix = "pmae") -> Key:
    """A new key, or token of a session."""
    return Key(secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES), prefix)


def parse(text: str) -> Key | None:
    """A key or token as it was sent; None: it does not look like one."""
    match = _KEY.fullmatch(text)
    return Key(match[2], match[3], cast("Prefix", match[1])) if match else None
