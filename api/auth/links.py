"""Links that fetch one file of a checkpoint for some minutes, since a link carries no header.

The signature covers the file, the moment at which the link ends, and the key that made it: what a
key may not do any more, its links may not either. It is made by itsdangerous. That library's
`TimestampSigner` is not used: it signs when a link was made, and refuses a link that another API
process made if that process's clock is a second ahead.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

from itsdangerous import Signer

from api.auth.errors import ForbiddenError
from api.http.responses import API_PREFIX
from api.settings import ApiSettings
from pmae.runtime.files import write_new_file
from pmae.schema.access import DownloadLink

_SECRET_FILE = "link-secret"  # noqa: S105 - a file's name
_SECRET_BYTES = 32
_FILE_PATH = re.compile(re.escape(API_PREFIX) + r"/checkpoints/([^/]+)/((?:basis/)?files/[^/]+)")


class LinkSigner:
    """Makes download links and verifies them.

    Args:
        secret: of this service; all its API processes must have the same.
        life_seconds: how long a link holds.
    """

    def __init__(self, secret: bytes, life_seconds: int) -> None:
        # The 48 bytes of SHA-384 fill their base64 exactly, so one signature has one spelling.
        self._signer = Signer(
            secret, salt="pmae download", key_derivation="hmac", digest_method=hashlib.sha384
        )
        self._life_seconds = life_seconds

    def sign(
        self, checkpoint_id: str, file_name: str, key_id: str | None, *, of_basis: bool = False
    ) -> DownloadLink:
        """Make a link to a file of a checkpoint, or of its basis, on behalf of a key."""
        folder = "basis/files" if of_basis else "files"
        expires = int(time.time()) + self._life_seconds
        signed = _signed_text(checkpoint_id, f"{folder}/{file_name}", str(expires), key_id or "")
        query = {
            "expires": str(expires),
            "signed_by": key_id or "",
            "signature": self._signer.get_signature(signed).decode(),
        }
        name = quote(file_name, safe="")
        path = f"{API_PREFIX}/checkpoints/{quote(checkpoint_id)}/{folder}/{name}"
        return DownloadLink(
            file_name=file_name,
            url=f"{path}?{urlencode(query)}",
            expires_at=datetime.fromtimestamp(expires, UTC),
        )

    def check(self, path: str, query: Mapping[str, str]) -> str:
        """Verify a link.

        Args:
            path: of the request.
            query: its parameters.

        Returns:
            The id of the key that made it.

        Raises:
            ForbiddenError: it is no link of this service, or it has expired.
        """
        match = _FILE_PATH.fullmatch(path)
        expires, key_id = query.get("expires", ""), query.get("signed_by", "")
        if match is None or not self._signer.verify_signature(
            _signed_text(match[1], match[2], expires, key_id), query.get("signature", "")
        ):
            raise ForbiddenError(
                "the link's signature does not hold: it was changed, or is of another file or "
                "service; POST /api/v1/checkpoints/{checkpoint_id}/links makes one",
                code="link_invalid",
            )
        if int(expires) < time.time():
            raise ForbiddenError(
                f"the link has expired; it held for {self._life_seconds} s. The page that it was "
                "on, or POST /api/v1/checkpoints/{checkpoint_id}/links, gives a new one",
                code="link_expired",
            )
        return key_id


def _signed_text(checkpoint_id: str, file: str, expires: str, key_id: str) -> str:
    """Join what is signed, as JSON: no two different lists are the same text."""
    return json.dumps([checkpoint_id, file, expires, key_id])


def make_signer(settings: ApiSettings) -> LinkSigner:
    """The signer of this service; its secret is made at the first start, unless the settings do."""
    if settings.secret_key is not None:
        secret = settings.secret_key.get_secret_value().encode()
    else:
        secret = _kept_secret(settings.home.absolute() / _SECRET_FILE)
    return LinkSigner(secret, settings.link_seconds)


def _kept_secret(path: Path) -> bytes:
    """What several processes with one home share: whoever is first makes it."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new_file(path, secrets.token_bytes(_SECRET_BYTES), mode=0o600)
    return path.read_bytes()
