"""Serve the API: ``python -m api``. Settings come from the environment (``PMAE_...``)."""

from __future__ import annotations

import logging

import uvicorn

from api.main import create_app
from api.request_log import LOGGER_NAME
from api.settings import ApiSettings
from pmae.logs import configure_logging


def main() -> None:
    """Serve until a signal comes."""
    settings = ApiSettings()
    configure_logging(settings.log_format)
    if settings.log_format == "text":
        # A dashboard asks every second: for people only the requests that fail are told.
        logging.getLogger(LOGGER_NAME).setLevel(logging.WARNING)
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
