"""Database sessions of processes that fork: one factory a process, without pooled connections."""

from __future__ import annotations

import os
from functools import lru_cache

from sqlalchemy.orm import Session, sessionmaker

from api.db.session import make_engine, make_sessions
from worker.settings import WorkerSettings


def sessions_of(settings: WorkerSettings) -> sessionmaker[Session]:
    """Return the session factory of this process."""
    return _sessions(settings.sqlalchemy_url, os.getpid())


@lru_cache(maxsize=4)
def _sessions(url: str, _pid: int) -> sessionmaker[Session]:
    return make_sessions(make_engine(url, pooled=False))
