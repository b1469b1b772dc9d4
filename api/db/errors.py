"""Errors of the run database.

::

    DbError
    ├── RunNotFoundError        there is no run of that id
    ├── TransitionRefusedError  the run's state does not allow the change
    ├── LeaseLostError          the run belongs to another lease, or has ended
    ├── SchemaError             the database's schema is of another version of the service
    ├── DatabaseRefusedError    the database cannot be used until a setting is corrected
    └── DatabaseAwayError       the database does not answer now; it may later
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pmae.errors import PmaeError

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
"""SQLAlchemy's errors for a database that does not answer, or is busy: a retry may succeed."""


class DbError(PmaeError):
    """Base class of this package's errors."""


class RunNotFoundError(DbError):
    """There is no run of that id."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {run_id}")
        self.run_id = run_id


class TransitionRefusedError(DbError):
    """The run's state does not allow the change."""


class SchemaError(DbError):
    """The database's schema is not the one that this version needs; says how to correct that."""


class DatabaseRefusedError(DbError):
    """The database cannot be used until a setting, or the database itself, is corrected."""


class DatabaseAwayError(DbError):
    """The database does not answer now."""


class LeaseLostError(DbError):
    """The run belongs to another lease, or has ended: nothing was written."""


def reason(error: SQLAlchemyError) -> str:
    """Return the driver's message on one line, without the statement and the link to help."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(cause).split())
