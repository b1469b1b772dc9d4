"""Hints for the terminal, added to error messages."""

from __future__ import annotations

import httpx

from pmae.client import ApiError, ServiceUnreachableError
from pmae.errors import PmaeError

_NOBODY = (
    "`pmae up` starts the service on this machine; PMAE_API_URL is the address of another one (in "
    "a container of a compose deployment http://api:8000, with a key in PMAE_API_KEY)"
)
_NO_KEY = "export it as PMAE_API_KEY"


def told(error: PmaeError) -> str:
    """Return the error's message, with a hint where the command line has one."""
    if isinstance(error, ServiceUnreachableError) and isinstance(
        error.__cause__, httpx.ConnectError
    ):
        return f"{error}; {_NOBODY}"
    if isinstance(error, ApiError) and error.problem.code == "key_required":
        return f"{error}; {_NO_KEY}"
    return str(error)
