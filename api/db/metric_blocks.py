"""Summaries of the metric points, so that a long series costs no more to draw than a short one.

A block is the points of one series whose steps lie between two multiples of :data:`BLOCK_STEPS`:
how many they are, where they begin and end, and their extremes. Blocks are a function of the
points: whoever writes points summarises the blocks that they fall into again, in the same
transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, case, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from api.db.tables import MetricBlockRow, MetricRow

BLOCK_STEPS = 64
"""Changing it takes a migration that summarises all points again."""
_MOST_NAMES = 1_000
"""Of one statement: SQLite takes 32,766 parameters."""
_KEY = ("run_number", "name", "block")


def summarise(
    session: Session, run_number: int, names: Collection[str], first_step: int, last_step: int
) -> None:
    """Summarise the blocks that hold a run's points of ``first_step`` to ``last_step`` again.

    Args:
        session: in whose transaction the points were written.
        run_number: of the run.
        names: of the metrics.
        first_step: least step that was written, of all of them.
        last_step: greatest one.
    """
    ordered = sorted(names)
    for start in range(0, len(ordered), _MOST_NAMES):
        blocks = _blocks(run_number, ordered[start : start + _MOST_NAMES], first_step, last_step)
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
