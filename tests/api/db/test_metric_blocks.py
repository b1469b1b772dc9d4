"""Blocks say of the points what the points say."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.metric_blocks import BLOCK_STEPS, summarise
from api.db.migrate import upgrade
from api.db.tables import MetricBlockRow, MetricRow, RunRow
from pmae.presets import get_preset
from tests.api.db.older import downgrade

Point = dict[str, Any]


def points_of(number: int, names: Iterable[str], seed: int = 0) -> list[Point]:
    """Two in three steps up to 300, with values that come several times."""
    draw = random.Random(seed)
    return [
        {"run_number": number, "name": name, "step": step, "epoch": step / 10}
        | {"time": 1e9 + step, "value": float(draw.randrange(-9, 10))}
        for name in names
        for step in range(300)
        if draw.random() < 2 / 3
    ]


def expected_blocks(points: Iterable[Point]) -> dict[tuple[str, int], tuple[object, ...]]:
    inside: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        inside.setdefault((point["name"], point["step"] // BLOCK_STEPS), []).append(point)
    return {
        key: (
            len(some),
            *(end(p["step"] for p in some) for end in (min, max)),
            *(end(p["time"] for p in some) for end in (min, max)),
            *min((p["value"], p["step"]) for p in some),
            max(p["value"] for p in some),
            min((-p["value"], p["step"]) for p in some)[1],
        )
        for key, some in inside.items()
    }


def found_blocks(sessions: sessionmaker[Session], number: int) -> dict[tuple[str, int], object]:
    with sessions() as session:
        rows = session.scalars(select(MetricBlockRow).where(MetricBlockRow.run_number == number))
        return {
            (row.name, row.block): (
                row.total,
                row.first_step,
                row.last_step,
                row.first_time,
                row.last_time,
                row.least,
                row.least_step,
                row.greatest,
                row.greatest_step,
            )
            for row in rows
        }


def add_run(sessions: sessionmaker[Session]) -> int:
    with sessions.begin() as session:
        return run_states.submit(session, spec=get_preset("quickstart").spec).number


def test_however_points_come_the_blocks_are_the_same(sessions: sessionmaker[Session]) -> None:
    number, other = add_run(sessions), add_run(sessions)
    points = points_of(number, ("loss", "lr"))
    parts = [points[start : start + 50] for start in range(0, len(points), 50)]
    for some in (*parts, points_of(other, ["loss"], seed=1)):
        with sessions.begin() as session:
            session.execute(insert(MetricRow), some)
            steps, names = [p["step"] for p in some], {p["name"] for p in some}
            summarise(session, some[0]["run_number"], names, min(steps), max(steps))
    assert found_blocks(sessions, number) == expected_blocks(points)
    with sessions.begin() as session:
        summarise(session, number, ["loss", "lr", "unknown"], 100, 200)
    assert found_blocks(sessions, number) == expected_blocks(points)


def test_blocks_go_with_their_run(sessions: sessionmaker[Session]) -> None:
    number = add_run(sessions)
    with sessions.begin() as session:
        session.execute(insert(MetricRow), points_of(number, ["loss"]))
        summarise(session, number, ["loss"], 0, 299)
    with sessions.begin() as session:
        session.execute(delete(RunRow).where(RunRow.number == number))
    assert found_blocks(sessions, number) == {}


def test_the_upgrade_summarises_what_is_there(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    number = add_run(sessions)
    points = points_of(number, ("loss", "lr"))
    with sessions.begin() as session:
        session.execute(insert(MetricRow), points)
    downgrade(database_url, "0003")
    upgrade(database_url)
    assert found_blocks(sessions, number) == expected_blocks(points)
