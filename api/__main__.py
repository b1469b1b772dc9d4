"""Serve the API: ``python -m api``. Settings come from the environment (``PMAE_...``)."""

from __future__ import annotations

import gc
import logging
import sys

import uvicorn

from api.http.request_log import LOGGER_NAME
from api.main import create_app, open_database
from api.settings import ApiSettings
from pmae.errors import PmaeError
from pmae.runtime.logging import configure_logging
from pmae.settings import load_settings


def main() -> None:
    """Serve the API until SIGINT or SIGTERM."""
    try:
        settings = load_settings(ApiSettings)
        configure_logging(settings.log_format)
        open_database(settings)
    except PmaeError as error:
        sys.exit(f"api: {error}")
    if settings.log_format == "text":
        # A dashboard polls every second, so the text log has only failed requests.
        logging.getLogger(LOGGER_NAME).setLevel(logging.WARNING)
    app = create_app(settings)
    # Imported objects stay: to scan them for garbage takes a tenth of a request's time.
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
    # Reached where the signal does not end the process, as for PID 1 of a container.
    if refusal := getattr(app.state, "refusal", None):
        sys.exit(f"api: {refusal}")


if __name__ == "__main__":
    main()
