"""Find silent faults in the database: ``pmae db check``.

A worker older than migration 0004 wrote points without their blocks (:mod:`api.db.metric_blocks`).
Such points are stored but not shown: curves and counts are read from the blocks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Select, delete, except_, func, select, union
from sqlalchemy.orm import Session, sessionmaker

from api.db.metric_blocks import BLOCK_STEPS, summarise
from api.db.run_states import hold
from api.db.tables import CheckpointRow, MetricBlockRow, MetricRow, RunRow
from pmae.runs.layout import MANIFEST_FILE, RunDir
from pmae.schema import TERMINAL_STATES

_BLOCKS_AT_ONCE = 250
"""Blocks in one repair transaction; a worker that records the same run waits for it."""


@dataclass(frozen=True)
class WrongBlocks:
    """A run whose blocks disagree with its points.

    Attributes:
        number: of the run.
        run_id: of the run.
        blocks: the wrong ones, by metric.
        points: number of points of these metrics.
        shown: number of these points that the blocks count.
    """

    number: int
    run_id: str
    blocks: dict[str, tuple[int, ...]]
    points: int
    shown: int


@dataclass(frozen=True)
class MissingCheckpoint:
    """A checkpoint of an ended run whose folder or manifest is missing."""

    run_id: str
    name: str
    folder: Path


def find_wrong_blocks(sessions: sessionmaker[Session]) -> Iterator[WrongBlocks]:
    """Compare the blocks of each run with its points, with one statement a run and no lock."""
    with sessions() as session:
        runs = session.execute(
            select(RunRow.number, RunRow.id)
            .where(RunRow.deleted_at.is_(None))
            .order_by(RunRow.number)
        ).all()
    for number, run_id in runs:
        found = _wrong_blocks_of(sessions, number, run_id)
        if found is not None:
            yield found


def repair_blocks(sessions: sessionmaker[Session], found: WrongBlocks) -> None:
    """Summarise the points of these blocks again, in short transactions.

    Safe while the service runs: these transactions and those of a worker that records the run
    wait for each other. A run that was deleted meanwhile is skipped.
    """
    for name, blocks in found.blocks.items():
        together: dict[int, list[int]] = defaultdict(list)
        for block in blocks:
            together[block // _BLOCKS_AT_ONCE].append(block)
        for some in together.values():
            first, last = min(some), max(some)
            with sessions.begin() as session:
                if hold(session, found.run_id) is None:
                    return
                session.execute(
                    delete(MetricBlockRow).where(
                        MetricBlockRow.run_number == found.number,
                        MetricBlockRow.name == name,
                        MetricBlockRow.block.between(first, last),
                    )
                )
                first_step, last_step = first * BLOCK_STEPS, last * BLOCK_STEPS
                summarise(session, found.number, [name], first_step, last_step)


def find_missing_checkpoints(
    sessions: sessionmaker[Session], runs_dir: Path
) -> list[MissingCheckpoint]:
    """List the checkpoints of ended runs that are in the database but missing on disk."""
    missing = [
        checkpoint
        for checkpoint in _checkpoints_at_rest(sessions)
        if not (checkpoint.folder_in(runs_dir) / MANIFEST_FILE).is_file()
    ]
    # Some may have been removed, or their runs resumed, since the first query.
    still = set(_checkpoints_at_rest(sessions)) if missing else set()
    return [
        MissingCheckpoint(each.run_id, each.name, each.folder_in(runs_dir))
        for each in missing
        if each in still
    ]


@dataclass(frozen=True)
class _Checkpoint:
    run_id: str
    name: str
    kind: str
    lease_number: int

    def folder_in(self, runs_dir: Path) -> Path:
        lease = RunDir(runs_dir / self.run_id).lease(self.lease_number)
        return (lease.latest if self.kind == "latest" else lease.checkpoints) / self.name


def _checkpoints_at_rest(sessions: sessionmaker[Session]) -> list[_Checkpoint]:
    query = (
        select(RunRow.id, CheckpointRow.name, CheckpointRow.kind, CheckpointRow.lease_number)
        .join(CheckpointRow, CheckpointRow.run_number == RunRow.number)
        .where(RunRow.state.in_(TERMINAL_STATES), RunRow.deleted_at.is_(None))
        .order_by(RunRow.number, CheckpointRow.step)
    )
    with sessions() as session:
        return [_Checkpoint(*row) for row in session.execute(query)]


def _wrong_blocks_of(
    sessions: sessionmaker[Session], number: int, run_id: str
) -> WrongBlocks | None:
    blocks: dict[str, list[int]] = defaultdict(list)
    with sessions() as session:
        for name, block in session.execute(_differing(number)):
            blocks[name].append(block)
        if not blocks:
            return None
        points = select(func.count()).where(
            MetricRow.run_number == number, MetricRow.name.in_(blocks)
        )
        shown = select(func.sum(MetricBlockRow.total)).where(
            MetricBlockRow.run_number == number, MetricBlockRow.name.in_(blocks)
        )
        return WrongBlocks(
            number,
            run_id,
            {name: tuple(sorted(some)) for name, some in sorted(blocks.items())},
            points=session.scalar(points) or 0,
            shown=int(session.scalar(shown) or 0),
        )


def _differing(number: int) -> Select[str, int]:
    """Select names and blocks where the stored summary differs from that of the points.

    One statement, so that both sides are read from one snapshot.
    """
    block = MetricRow.step // BLOCK_STEPS
    points = (
        select(
            MetricRow.name,
            block.label("block"),
            func.count().label("total"),
            func.min(MetricRow.step),
            func.max(MetricRow.step),
            func.min(MetricRow.time),
            func.max(MetricRow.time),
            func.min(MetricRow.value),
            func.max(MetricRow.value),
        )
        .where(MetricRow.run_number == number)
        .group_by(MetricRow.name, block)
    )
    blocks = select(
        MetricBlockRow.name,
        MetricBlockRow.block,
        MetricBlockRow.total,
        MetricBlockRow.first_step,
        MetricBlockRow.last_step,
        MetricBlockRow.first_time,
        MetricBlockRow.last_time,
        MetricBlockRow.least,
        MetricBlockRow.greatest,
    ).where(MetricBlockRow.run_number == number)
    unsummarised = except_(points, blocks).subquery().c
    wrong = except_(blocks, points).subquery().c
    either = union(
        select(unsummarised.name, unsummarised.block), select(wrong.name, wrong.block)
    ).subquery()
    return select(either.c.name, either.c.block)
