"""Settings of the dashboard: environment variables that start with ``PMAE_``."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DashboardSettings(BaseSettings):
    """Addresses: of the dashboard itself, and of the API for this process and for the browser."""

    model_config = SettingsConfigDict(env_prefix="PMAE_", env_ignore_empty=True, extra="ignore")

    dashboard_host: str = Field(
        default="127.0.0.1", description="Address that `python -m dashboard` listens on."
    )
    dashboard_port: int = Field(
        default=8501, ge=0, le=65_535, description="Port that `python -m dashboard` listens on."
    )
    api_port: int = Field(default=8000, ge=1, le=65_535, description="Port of the REST API.")
    api_url: str | None = Field(
        default=None, description="Address of the API; default: this machine, PMAE_API_PORT."
    )
    public_api_url: str | None = Field(
        default=None,
        description="Address of the API for the browser's downloads; default: as PMAE_API_URL.",
    )

    @property
    def service_url(self) -> str:
        """Address of the API for this process."""
        return self.api_url or f"http://127.0.0.1:{self.api_port}"

    @property
    def download_url(self) -> str:
        """Address of the API for links that a browser follows."""
        return self.public_api_url or self.service_url
