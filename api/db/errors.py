"""Errors of the run database.

::

    DbError
    ├── RunNotFoundError        there is no run of that id
    ├── TransitionRefusedError  the run's state does not allow the change
    └── LeaseLostError          the run belongs to another lease: nothing may be written
"""

from __future__ import annotations

from sqlalchemy.exc import InterfaceError, OperationalError
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


class LeaseLostError(DbError):
    """The run belongs to another lease, or has ended: this one's writes do not count."""
