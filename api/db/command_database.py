"""The database for a command of ``pmae``; its errors become one-sentence messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from sqlalchemy import Engine, make_url

from api.db.errors import DbError
from api.db.opening import describe, opened
from api.db.revision import check_revision, revision_of
from api.db.settings import ServiceSettings
from pmae.errors import CommandError
from pmae.settings import load_settings


def command_settings() -> ServiceSettings:
    """Read the settings from the environment.

    Raises:
        SettingsError: a variable is invalid; its value, perhaps a secret, is not shown.
    """
    return load_settings(ServiceSettings)


@contextmanager
def command_database(settings: ServiceSettings, *, may_be_empty: bool = False) -> Iterator[Engine]:
    """Open the database, which must exist: in an empty one every run would seem unknown.

    Args:
        settings: of the service.
        may_be_empty: accept a database without tables, or a file that does not exist yet.

    Raises:
        CommandError: there is no database of this service, its schema is of another version, or
            it cannot be used.
    """
    try:
        where = describe(settings.sqlalchemy_url)
        url = make_url(settings.sqlalchemy_url)
        is_file = url.get_backend_name() == "sqlite"
        if is_file and not may_be_empty and not Path(url.database or "").is_file():
            raise CommandError(_no_database(settings))  # connecting would create the file
        with opened(settings.sqlalchemy_url) as engine:
            if not may_be_empty:
                with engine.connect() as connection:
                    found = revision_of(connection)
                check_revision(found, where)
            yield engine
    except DbError as error:
        raise CommandError(str(error)) from error


def _no_database(settings: ServiceSettings) -> str:
    return (
        f"there is no database in {settings.home.absolute()}; expected PMAE_HOME, "
        "PMAE_DATABASE_HOST or PMAE_DATABASE_URL to name one; in a compose deployment: "
        f"docker compose exec api {_command()}"
    )


def _command() -> str:
    """Return the command as typed, up to its options: ``pmae keys list``."""
    return " ".join(["pmae", *takewhile(str.isalpha, sys.argv[1:3])])
