"""Serve the dashboard: ``python -m dashboard``. Settings come from the environment (``PMAE_...``).

Behind a proxy ``FORWARDED_ALLOW_IPS`` names the addresses whose ``X-Forwarded-*`` are believed.
"""

from __future__ import annotations

import logging
import sys

import uvicorn
from pydantic import ValidationError

from dashboard.settings import DashboardSettings
from pmae.spec.messages import setting_faults

STOP_SECONDS = 3
"""For answers that are under way; the websockets of open pages are closed at once."""


def main() -> None:
    """Serve until a signal comes."""
    try:
        settings = DashboardSettings()
    except ValidationError as error:
        sys.exit(
            "\n".join(f"dashboard: {each}" for each in setting_faults(error, show_values=True))
        )
    # Streamlit reads its options as it is imported, and a setting that is wrong ends it before.
    from dashboard.web.application import create_app

    app = create_app(settings)
    _log_no_requests()
    uvicorn.run(
        app,
        host=settings.dashboard_host,
        port=settings.dashboard_port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def _log_no_requests() -> None:
    """Keep requests and connections out of the log: a page makes hundreds.

    Streamlit has given uvicorn's loggers handlers and levels of its own, whatever uvicorn is told.
    """
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return record.levelno > logging.INFO or not (
        message.startswith("connection ") or '"WebSocket ' in message
    )


if __name__ == "__main__":
    main()
