"""Errors of the run database.

::

    DbError
    ├── RunNotFoundError        there is no run of that id
    ├── TransitionRefusedError  the run's state does not allow the change
    ├── LeaseLostError          the run belongs to another lease: nothing may be written
    ├── SchemaError             the database is of another version of the service
    ├── DatabaseRefusedError    the database cannot be used until somebody changes something
    └── DatabaseAwayError       the database does not answer now, and may later
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pmae.errors import PmaeError

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
"""What SQLAlchemy raises where the database does not answer, or cannot do anything now: the same
may succeed later."""


class DbError(PmaeError):
    """Anything this package raises on purpose."""


class RunNotFoundError(DbError):
    """There is no run of that id."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {run_id}")
        self.run_id = run_id


class TransitionRefusedError(DbError):
    """The run's state does not allow the change."""


class SchemaError(DbError):
    """The database's schema is not the one that this version works with; says what to do."""


class DatabaseRefusedError(DbError):
    """The database cannot be used until somebody changes a setting or the database."""


class DatabaseAwayError(DbError):
    """The database does not answer now."""


class LeaseLostError(DbError):
    """The run belongs to another lease, or has ended: this one's writes do not count."""


def reason(error: SQLAlchemyError) -> str:
    """The driver's words on one line, without the statement and where to read about it."""
    told = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(told).split())
