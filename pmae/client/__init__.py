"""Typed client of the REST API, for the dashboard, the command line and notebooks.

    from pmae.client import PmaeClient

    with PmaeClient("http://127.0.0.1:8000") as client:
        run = client.submit(preset="quickstart")
        for event in client.events(run.id):
            print(event.type, event.entry or event.progress)

Answers are the models of :mod:`pmae.schema`. Errors::

    PmaeError
    └── ClientError                   base class of all errors below
        ├── ServiceUnreachableError   no answer: not running, another address, broken connection
        ├── ApiError                  the service refused; ``problem`` says which field and why
        ├── UnexpectedAnswerError     an answer, but not one of this API
        ├── InvalidKeyError           a malformed API key; nothing was sent
        └── DownloadError             an incomplete or corrupt download; see its message

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
