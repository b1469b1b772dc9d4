"""Contents of the measured databases: many runs, some of them with long series.

Ours and a peer's are the same: one SQL expression, which all databases support, gives the values.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sqlalchemy import insert, inspect, select, text
from sqlalchemy.orm import Session

from api.db import run_states
from api.db.metric_blocks import summarise
from api.db.session import make_engine, make_sessions
from api.db.tables import CheckpointRow, RunRow
from pmae.presets import get_preset
from pmae.runs.layout import RunDir

NUM_RUNS = 10_000
NUM_LONG_RUNS = 100
NUM_STEPS = 100_000
"""Points of the one series of each long run: 10 million altogether."""
METRIC = "loss"
BEGAN_AT = 1_750_000_000
CHECKPOINT_BYTES = 256 * 2**20

_LAST_METRICS = {METRIC: 0.21, "val_loss": 0.23, "lr": 1e-6, "grad_norm": 0.8}


def values_of_series(run: int | str) -> str:
    """SQL that gives the steps ``i`` and the values ``v`` of one run's loss.

    The loss falls, with noise that differs between runs, so that no two neighbours are equal.
    """
    return (
        "WITH RECURSIVE steps(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM steps "  # noqa: S608 - of constants
        f"WHERE i < {NUM_STEPS}), points(i, v) AS (SELECT i, 1.0 / (1.0 + i / 2000.0) "
        f"+ ((i * 7919 + {run} * 104729) % 10007) / 50000.0 FROM steps) "
    )


def fill(database_url: str) -> list[str]:
    """Add the runs and the points, and return the ids of the runs with points."""
    engine = make_engine(database_url)
    sessions = make_sessions(engine)
    try:
        with sessions.begin() as session:
            numbers = _add_runs(session)
        for number in numbers:
            with sessions.begin() as session:
                session.execute(text(_insert_series(number)))
                summarise(session, number, [METRIC], 1, NUM_STEPS)
        with engine.connect() as connection:
            # PostgreSQL's autovacuum does this within a minute of so many new rows.
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("ANALYZE" if engine.name == "sqlite" else "VACUUM ANALYZE")
        with sessions() as session:
            ids = select(RunRow.id).where(RunRow.number.in_(numbers))
            return list(session.scalars(ids.order_by(RunRow.number)))
    finally:
        engine.dispose()


def _add_runs(session: Session) -> list[int]:
    spec = get_preset("quickstart").spec
    first = run_states.submit(session, spec=spec, preset="quickstart")
    columns = [column.name for column in inspect(RunRow).columns if column.name != "number"]
    like = {name: getattr(first, name) for name in columns} | {
        "state": "succeeded",
        "last_metrics": _LAST_METRICS,
        "progress": {"stage": "probe", "step": NUM_STEPS, "total_steps": NUM_STEPS},
        "top1": 0.71,
    }
    rows = [like | {"id": f"{index:012x}", "name": f"run {index}"} for index in range(NUM_RUNS)]
    session.execute(insert(RunRow), rows)
    found = session.scalars(select(RunRow.number).order_by(RunRow.number))
    return list(found)[1 : NUM_LONG_RUNS + 1]


def _insert_series(number: int) -> str:
    return (
        "INSERT INTO metrics (run_number, name, step, epoch, time, value) "  # noqa: S608 - of constants
        f"{values_of_series(number)} SELECT {number}, '{METRIC}', i, i / 100.0, "
        f"{BEGAN_AT} + i / 10.0, v FROM points"
    )


def add_checkpoint(database_url: str, runs_dir: Path, run_id: str) -> Path:
    """Add a checkpoint of one file of ``CHECKPOINT_BYTES`` to a run, and return the file."""
    name = "step-00100000"
    folder = RunDir(runs_dir / run_id).lease(1).checkpoints / name
    folder.mkdir(parents=True)
    file = folder / "encoder.safetensors"
    block = hashlib.shake_256(b"weights").digest(2**20)
    digest = hashlib.sha256()
    with file.open("wb") as output:
        for _ in range(CHECKPOINT_BYTES // len(block)):
            output.write(block)
            digest.update(block)
    facts = {"sha256": digest.hexdigest(), "size": CHECKPOINT_BYTES}
    engine = make_engine(database_url)
    try:
        with make_sessions(engine).begin() as session:
            number = session.scalars(select(RunRow.number).where(RunRow.id == run_id)).one()
            row = CheckpointRow(
                id=f"{run_id}-00100000",
                run_number=number,
                name=name,
                kind="kept",
                lease_number=1,
                step=NUM_STEPS,
                epoch=1000.0,
                created_at=float(BEGAN_AT),
                files={file.name: facts},
                metrics={},
            )
            session.add(row)
    finally:
        engine.dispose()
    return file
