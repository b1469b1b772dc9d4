"""Typed client of the REST API: what the dashboard, the command line and notebooks use.

    from pmae.client import PmaeClient

    with PmaeClient("http://127.0.0.1:8000") as client:
        run = client.submit(preset="quickstart")
        for event in client.events(run.id):
            print(event.type, event.entry or event.progress)

Answers are the models of :mod:`pmae.schema`. Whatever goes wrong is one of::

    PmaeError
    └── ClientError                   the service could not be asked, or said no
        ├── ServiceUnreachableError   no answer: not running, another address, broken connection
        ├── ApiError                  the service refused; ``problem`` says which field and why
        ├── UnexpectedAnswerError     an answer, but not one of this API
        ├── InvalidKeyError           what was given as an API key is none; nothing was sent
        └── DownloadError             a file could not be fetched whole; the part is kept

Imports neither torch nor any web framework.
"""

from __future__ import annotations

from pmae.client.client import PmaeClient
from pmae.client.errors import (
    ApiError,
    DownloadError,
    InvalidKeyError,
    ServiceUnreachableError,
    UnexpectedAnswerError,
)
from pmae.client.events import Event
from pmae.errors import ClientError

__all__ = [
    "ApiError",
    "ClientError",
    "DownloadError",
    "Event",
    "InvalidKeyError",
    "PmaeClient",
    "ServiceUnreachableError",
    "UnexpectedAnswerError",
]
