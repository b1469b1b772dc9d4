"""Serve the API: ``python -m api``. Settings come from the environment (``PMAE_...``)."""

from __future__ import annotations

import gc
import logging
import sys

import uvicorn
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from api.main import create_app
from api.request_log import LOGGER_NAME
from api.settings import ApiSettings
from pmae.faults import fault
from pmae.logs import configure_logging


def main() -> None:
    """Serve until a signal comes."""
    try:
        settings = ApiSettings()
    except ValidationError as error:
        sys.exit("\n".join(f"api: {_sentence(found)}" for found in error.errors()))
    configure_logging(settings.log_format)
    if settings.log_format == "text":
        # A dashboard asks every second: for people only the requests that fail are told.
        logging.getLogger(LOGGER_NAME).setLevel(logging.WARNING)
    app = create_app(settings)
    # What was imported stays: looking through it for garbage takes a tenth of a request's time.
    gc.freeze()
    uvicorn.run(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


def _sentence(found: ErrorDetails) -> str:
    """What is wrong with a setting, without its value: it may be a secret."""
    message = fault(found)
    return f"PMAE_{str(found['loc'][0]).upper()}: {message}" if found["loc"] else message


if __name__ == "__main__":
    main()
