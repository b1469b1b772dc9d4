"""The client of whoever runs a command on this machine."""

from __future__ import annotations

import os

from pmae.client.client import PmaeClient


def connect(api_url: str) -> PmaeClient:
    """A client with the key in ``PMAE_API_KEY``: as an option, every process list would show it."""
    return PmaeClient(api_url, api_key=os.environ.get("PMAE_API_KEY") or None)
