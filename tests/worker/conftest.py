"""A claimed run on each database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.run_states import Claim
from api.db.session import make_engine, make_sessions
from pmae.presets import get_preset
from pmae.spec import resolve
from worker.settings import WorkerSettings


@pytest.fixture
def sessions(database_url: str) -> Iterator[sessionmaker[Session]]:
    engine = make_engine(database_url)
    yield make_sessions(engine)
    engine.dispose()


@pytest.fixture
def claimed(sessions: sessionmaker[Session]) -> Claim:
    with sessions.begin() as session:
        run_states.submit(session, spec=resolve(get_preset("quickstart").spec), max_attempts=2)
    with sessions.begin() as session:
        found = run_states.claim(session, worker="w1", lease_seconds=60)
    assert found is not None
    return found


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    return WorkerSettings(
        home=tmp_path / "home", worker_name="w1", cancel_grace_seconds=1, heartbeat_seconds=0.5
    )
