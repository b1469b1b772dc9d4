"""The client of whoever runs a command on this machine."""

from __future__ import annotations

from pmae.client.client import PmaeClient
from pmae.runtime.secret_files import API_KEY, read_secret


def connect(api_url: str) -> PmaeClient:
    """Connect with the key in ``PMAE_API_KEY``, or in the file that ``PMAE_API_KEY_FILE`` names.

    As an option, every process list would show it.

    Raises:
        SettingsError: both are given, or the file cannot be read.
    """
    return PmaeClient(api_url, api_key=read_secret(API_KEY))
