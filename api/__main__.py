"""Serve the API: ``python -m api``. Settings come from the environment (``PMAE_...``)."""

from __future__ import annotations

import uvicorn

from api.main import create_app
from api.settings import ApiSettings


def main() -> None:
    """Serve until a signal comes."""
    settings = ApiSettings()
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
