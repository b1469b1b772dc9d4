"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

ApiUrl = Annotated[
    str, typer.Option("--api-url", envvar="PMAE_API_URL", help="Address of the service.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON, and nothing else.")]
LOCAL_API = "http://127.0.0.1:8000"
