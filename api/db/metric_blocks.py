"""Block summaries of metric points: a long series is drawn as fast as a short one.

A block covers the points of one series between two multiples of :data:`BLOCK_STEPS` steps: their
count, first and last step and time, minimum and maximum. Blocks are a function of the points: a
transaction that writes points also summarises the blocks that they fall into again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, case, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from api.db.tables import MetricBlockRow, MetricRow

BLOCK_STEPS = 64
"""Changing it needs a migration that summarises all points again."""
_MAX_NAMES = 1_000
"""In one statement: SQLite accepts 32,766 parameters."""
_KEY = ("run_number", "name", "block")


def summarise(
    session: Session, run_number: int, names: Collection[str], first_step: int, last_step: int
) -> None:
    """Summarise the blocks that hold a run's points of ``first_step`` to ``last_step`` again.

    Args:
        session: in the transaction that wrote the points.
        run_number: of the run.
        names: of the metrics.
        first_step: minimum step written, over all metrics.
        last_step: maximum step written.
    """
    ordered = sorted(names)
    for start in range(0, len(ordered), _MAX_NAMES):
        blocks = _blocks(run_number, ordered[start : start + _MAX_NAMES], first_step, last_step)
        postgres = session.get_bind().dialect.name == "postgresql"
        insert = (postgresql.insert if postgres else sqlite.insert)(MetricBlockRow)
        columns = [column.name for column in blocks.selected_columns]
        insert = insert.from_select(columns, blocks)
        values = {name: insert.excluded[name] for name in columns if name not in _KEY}
        session.execute(insert.on_conflict_do_update(index_elements=_KEY, set_=values))


def _blocks(
    run_number: int, names: Collection[str], first_step: int, last_step: int
) -> Select[Any]:
    block = (MetricRow.step // BLOCK_STEPS).label("block")
    together = (MetricRow.name, block)
    rising, falling = (
        func.row_number().over(partition_by=together, order_by=(value, MetricRow.step))
        for value in (MetricRow.value.asc(), MetricRow.value.desc())
    )
    points = (
        select(
            MetricRow.run_number,
            MetricRow.name,
            block,
            MetricRow.step,
            MetricRow.time,
            MetricRow.value,
            rising.label("rising"),
            falling.label("falling"),
        )
        .where(
            MetricRow.run_number == run_number,
            MetricRow.name.in_(names),
            MetricRow.step >= first_step // BLOCK_STEPS * BLOCK_STEPS,
            MetricRow.step < (last_step // BLOCK_STEPS + 1) * BLOCK_STEPS,
        )
        .subquery("points")
        .c
    )
    key = (points.run_number, points.name, points.block)
    return select(
        *key,
        func.count().label("total"),
        func.min(points.step).label("first_step"),
        func.max(points.step).label("last_step"),
        func.min(points.time).label("first_time"),
        func.max(points.time).label("last_time"),
        func.min(points.value).label("least"),
        func.max(case((points.rising == 1, points.step))).label("least_step"),
        func.max(points.value).label("greatest"),
        func.max(case((points.falling == 1, points.step))).label("greatest_step"),
    ).group_by(*key)
