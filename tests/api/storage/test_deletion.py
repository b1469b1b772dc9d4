"""The rows of a deleted run go in pieces, from wherever the last round came to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, update
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.metric_blocks import summarise
from api.db.session import make_engine, make_sessions
from api.db.tables import MetricBlockRow, MetricRow, RunRow
from api.storage.deletion import finish_deletions
from pmae.presets import get_preset
from pmae.spec import resolve

POINTS, NAMES = 200, ("a", "loss", "z")


@pytest.fixture
def sessions(database_url: str) -> Iterator[sessionmaker[Session]]:
    engine = make_engine(database_url)
    yield make_sessions(engine)
    engine.dispose()


@pytest.fixture
def removed(sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each statement removed of the tables of metrics."""
    monkeypatch.setattr("api.storage.deletion.PIECE_ROWS", 7)
    monkeypatch.setattr("api.storage.deletion._PAUSE_SECONDS", 0)
    counts: list[int] = []

    def note(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM metric"):
            counts.append(cursor.rowcount)

    event.listen(sessions.kw["bind"], "after_cursor_execute", note)
    return counts


def _run(sessions: sessionmaker[Session], **values: Any) -> int:
    with sessions.begin() as session:
        number = run_states.submit(session, spec=resolve(get_preset("quickstart").spec)).number
    rows = [
        {"run_number": number, "name": name, "step": step, "epoch": 1.0, "time": 1e9, "value": 0.5}
        for name in NAMES
        for step in range(1, POINTS + 1)
    ]
    with sessions.begin() as session:
        session.execute(insert(MetricRow), rows)
        summarise(session, number, NAMES, 1, POINTS)
        session.execute(update(RunRow).where(RunRow.number == number).values(**values))
    return number


def _count(sessions: sessionmaker[Session], table: Any, number: int) -> int:
    with sessions() as session:
        query = select(func.count()).select_from(table).where(table.run_number == number)
        return session.scalar(query) or 0


def test_they_go_in_pieces_and_no_others_do(
    sessions: sessionmaker[Session], removed: list[int], tmp_path: Path
) -> None:
    gone, stays = _run(sessions, state="failed", deleted_at=1.0), _run(sessions, state="failed")
    assert len(finish_deletions(sessions, tmp_path)) == 1
    assert max(removed) == 7
    assert sum(removed) == POINTS * len(NAMES) + 4 * len(NAMES)
    with sessions() as session:
        assert session.get(RunRow, gone) is None
    assert _count(sessions, MetricRow, stays) == POINTS * len(NAMES)
    assert _count(sessions, MetricBlockRow, stays) == 4 * len(NAMES)


def test_a_round_that_is_stopped_is_gone_on_with(
    sessions: sessionmaker[Session], removed: list[int], tmp_path: Path
) -> None:
    number = _run(sessions, state="failed", deleted_at=1.0)

    class Stopping(Event):
        def wait(self, timeout: float | None = None) -> bool:
            """Asked for after each piece."""
            if len(removed) == 5:
                self.set()
            return super().wait(timeout)

    assert finish_deletions(sessions, tmp_path, Stopping()) == []
    assert _count(sessions, MetricRow, number) == POINTS * len(NAMES) - 5 * 7
    assert len(finish_deletions(sessions, tmp_path)) == 1
    assert _count(sessions, MetricRow, number) == 0
    assert sum(removed) == POINTS * len(NAMES) + 4 * len(NAMES)
