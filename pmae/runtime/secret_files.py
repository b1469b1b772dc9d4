"""Secrets from files: ``PMAE_X_FILE`` names a file whose content is the value of ``PMAE_X``.

Docker and Kubernetes provide secrets as files; ``docker inspect`` would show environment variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from pmae.errors import SettingsError

DATABASE_PASSWORD, DATABASE_URL = "PMAE_DATABASE_PASSWORD", "PMAE_DATABASE_URL"
BROKER_URL, SECRET_KEY, API_KEY = "PMAE_BROKER_URL", "PMAE_SECRET_KEY", "PMAE_API_KEY"
SECRETS = frozenset({DATABASE_PASSWORD, DATABASE_URL, BROKER_URL, SECRET_KEY, API_KEY})
"""Variables that may be given as files."""
PRIVATE = frozenset(
    {*SECRETS, *(f"{name}_FILE" for name in SECRETS)}
    | {f"PMAE_DATABASE_{part}" for part in ("HOST", "PORT", "NAME", "USER")}
    | {"POSTGRES_PASSWORD", "PGPASSWORD", "PGPASSFILE", "CELERY_BROKER_URL"}
)
"""Variables for processes that reach database, broker or API; hidden from all others."""


def read_secret(variable: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Read a secret from ``variable``, or from the file that ``variable`` + ``_FILE`` names.

    Args:
        variable: one of :data:`SECRETS`.
        environment: environment variables; default: this process's.

    Returns:
        The value, without a file's final newline; None if neither is set, or both are empty.

    Raises:
        SettingsError: both are set, or the file cannot be read, is not UTF-8 or is empty.
    """
    value, named = environment.get(variable), environment.get(f"{variable}_FILE")
    if not named:
        return value or None
    if value:
        raise SettingsError(
            f"{variable} and {variable}_FILE are both set; expected one of them, the other empty"
        )
    try:
        content = Path(named).read_text(encoding="utf-8")
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError:  # the message would show a part of the content
        why = "is not UTF-8 text"
    else:
        content = content.removesuffix("\n").removesuffix("\r")
        if content:
            return content
        why = "is empty"
    raise SettingsError(
        f"{variable}_FILE: {named}: {why}; expected a file that holds the value of {variable}"
    )


def without_secrets(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Copy an environment without the variables that reach database, broker or API."""
    return {name: value for name, value in environment.items() if name.upper() not in PRIVATE}


class SecretFiles(PydanticBaseSettingsSource):
    """Settings source for secrets that are given as files."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        prefix = self.config.get("env_prefix", "")
        variables = {name: f"{prefix}{name}".upper() for name in settings_cls.model_fields}
        self._variables = {name: each for name, each in variables.items() if each in SECRETS}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Find the value of one field; see the base class."""
        variable = self._variables.get(field_name)
        return (read_secret(variable) if variable else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Read all secrets that are set, as ``PMAE_X`` or as ``PMAE_X_FILE``."""
        found = {name: read_secret(variable) for name, variable in self._variables.items()}
        return {name: value for name, value in found.items() if value is not None}
