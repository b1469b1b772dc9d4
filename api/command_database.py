"""The database for the time of a command of ``pmae``. Faults of it are told in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Engine, inspect, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from api.db.session import make_engine
from api.db.tables import RunRow
from pmae.errors import CommandError
from pmae.faults import fault
from pmae.settings import ServiceSettings


def command_settings() -> ServiceSettings:
    """From the environment.

    Raises:
        CommandError: a variable has no valid value; it is not shown, since it may be a secret.
    """
    try:
        return ServiceSettings()
    except ValidationError as error:
        faults = [
            f"PMAE_{str(found['loc'][0]).upper()}: {fault(found)}" for found in error.errors()
        ]
        raise CommandError("; ".join(faults)) from error


@contextmanager
def command_database(settings: ServiceSettings, *, may_be_empty: bool = False) -> Iterator[Engine]:
    """The database, which must be there: without it every run would seem unknown.

    Args:
        settings: which it is.
        may_be_empty: one without tables will do, and a file that is not there yet.

    Raises:
        CommandError: there is no database of this service, or it cannot be used, now or meanwhile.
    """
    try:
        engine = _engine(settings, may_be_empty)
        try:
            if not may_be_empty and not inspect(engine).has_table(RunRow.__tablename__):
                raise _no_database(settings)
            yield engine
        finally:
            engine.dispose()
    except SQLAlchemyError as error:
        raise CommandError(
            f"the database of the service cannot be used: {_reason(error)}; PMAE_DATABASE_URL or "
            "PMAE_HOME says which it is"
        ) from error


def _engine(settings: ServiceSettings, may_be_empty: bool) -> Engine:
    url = make_url(settings.sqlalchemy_url)
    is_file = url.get_backend_name() == "sqlite"
    if is_file and not may_be_empty and not Path(url.database or "").is_file():
        raise _no_database(settings)  # to connect would make one
    try:
        return make_engine(settings.sqlalchemy_url, pooled=False)
    except ImportError as error:
        raise CommandError(
            f"the driver of {url.drivername} is not installed ({error}); PMAE_DATABASE_URL is "
            "sqlite:///... or postgresql+psycopg://..."
        ) from error


def _no_database(settings: ServiceSettings) -> CommandError:
    return CommandError(
        f"there is no database of the service for {settings.home.absolute()}; PMAE_HOME or "
        "PMAE_DATABASE_URL names it"
    )


def _reason(error: SQLAlchemyError) -> str:
    """The driver's words on one line, without the statement and where to read about it."""
    told = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(told).split())
