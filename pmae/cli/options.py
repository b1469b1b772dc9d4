"""Options that several commands have, and the client that they make."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from pmae.client import PmaeClient

ApiUrl = Annotated[
    str, typer.Option("--api-url", envvar="PMAE_API_URL", help="Address of the service.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON, and nothing else.")]
LOCAL_API = "http://127.0.0.1:8000"


def connect(api_url: str) -> PmaeClient:
    """A client with the key in ``PMAE_API_KEY``: as an option, every process list would show it."""
    return PmaeClient(api_url, api_key=os.environ.get("PMAE_API_KEY") or None)
