"""Signed links: download one file of a checkpoint without a key, for some minutes.

The signature covers the file, the time of expiry and the id of the key that made the link, which
ends with that key. It is made by itsdangerous, but not by its `TimestampSigner`, which signs the
time of creation and refuses a link of another API process whose clock is a second ahead.
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
    """Signs and verifies download links.

    Args:
        secret: the same for all API processes of a service.
        life_seconds: time until a link expires.
    """

    def __init__(self, secret: bytes, life_seconds: int) -> None:
        # The 48 bytes of SHA-384 have a unique base64 form, without padding bits.
        self._signer = Signer(
            secret, salt="pmae download", key_derivation="hmac", digest_method=hashlib.sha384
        )
        self._life_seconds = life_seconds

    def sign(
        self, checkpoint_id: str, file_name: str, key_id: str | None, *, of_basis: bool = False
    ) -> DownloadLink:
        """Sign a link to a file of a checkpoint, or of its basis, with the rights of a key."""
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
            ForbiddenError: the signature is invalid, or the link has expired.
        """
        match = _FILE_PATH.fullmatch(path)
        expires, key_id = query.get("expires", ""), query.get("signed_by", "")
        if match is None or not self._signer.verify_signature(
            _signed_text(match[1], match[2], expires, key_id), query.get("signature", "")
        ):
            raise ForbiddenError(
                "the link's signature is invalid: it was changed, or belongs to another file or "
                "service; POST /api/v1/checkpoints/{checkpoint_id}/links creates a link",
                code="link_invalid",
            )
        if int(expires) < time.time():
            raise ForbiddenError(
                f"the link has expired after {self._life_seconds} s; reload the page that it was "
                "on, or POST /api/v1/checkpoints/{checkpoint_id}/links for a new one",
                code="link_expired",
            )
        return key_id


def _signed_text(checkpoint_id: str, file: str, expires: str, key_id: str) -> str:
    """Join the signed values as JSON, so that different values never give the same text."""
    return json.dumps([checkpoint_id, file, expires, key_id])


def make_signer(settings: ApiSettings) -> LinkSigner:
    """Make the signer; its secret is in the settings, or generated and stored on first use."""
    if settings.secret_key is not None:
        secret = settings.secret_key.get_secret_value().encode()
    else:
        secret = _kept_secret(settings.home.absolute() / _SECRET_FILE)
    return LinkSigner(secret, settings.link_seconds)


def _kept_secret(path: Path) -> bytes:
    """Read the secret shared by the processes of one home; the first of them generates it."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new_file(path, secrets.token_bytes(_SECRET_BYTES), mode=0o600)
    return path.read_bytes()
