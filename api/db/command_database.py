"""The database for the time of a command of ``pmae``. Faults of it are told in a sentence."""

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
    """From the environment.

    Raises:
        SettingsError: a variable has no valid value; it is not shown, since it may be a secret.
    """
    return load_settings(ServiceSettings)


@contextmanager
def command_database(settings: ServiceSettings, *, may_be_empty: bool = False) -> Iterator[Engine]:
    """The database, which must be there: without it every run would seem unknown.

    Args:
        settings: which it is.
        may_be_empty: one without tables will do, and a file that is not there yet.

    Raises:
        CommandError: there is no database of this service, it is of another version, or it cannot
            be used, now or meanwhile.
    """
    try:
        where = describe(settings.sqlalchemy_url)
        url = make_url(settings.sqlalchemy_url)
        is_file = url.get_backend_name() == "sqlite"
        if is_file and not may_be_empty and not Path(url.database or "").is_file():
            raise CommandError(_no_database(settings))  # to connect would make one
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
        f"there is no database here ({settings.home.absolute()}): PMAE_HOME, PMAE_DATABASE_HOST or "
        f"PMAE_DATABASE_URL names it; in a compose deployment: docker compose exec api {_command()}"
    )


def _command() -> str:
    """The command as it was typed, up to its options: ``pmae keys list``."""
    return " ".join(["pmae", *takewhile(str.isalpha, sys.argv[1:3])])
