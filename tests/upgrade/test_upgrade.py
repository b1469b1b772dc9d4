"""The state that an older version left in the middle of a run is migrated, and the run goes on.

``make_fixture.py`` made the fixtures; docs/upgrade.md says of what.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, make_url, select

from api.db.session import make_engine
from api.db.tables import EvaluationRow, MetricBlockRow, MetricRow, RunEventRow
from pmae.spec import ExperimentSpec
from tests.faults.lab import Lab
from tests.support.postgres import BINARIES, PostgresServer, postgres_server
from tests.upgrade.make_fixture import (
    ARTIFACTS_FILE,
    DUMP_FILE,
    FACTS_FILE,
    FIXTURES,
    STEPS_PER_EPOCH,
)

pytestmark = [pytest.mark.slow, pytest.mark.stack]
KEPT_STEP = 100 * STEPS_PER_EPOCH
"""Of the fixtures' one kept checkpoint."""
COMMITS = sorted(path.name for path in FIXTURES.iterdir())


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def _load(lab: Lab, fixture: Path) -> dict[str, Any]:
    """Put a fixture into a lab that is not started yet; what is known of its run."""
    address = make_url(str(lab.api.environment["PMAE_DATABASE_URL"])).set(drivername="postgresql")
    subprocess.run(
        [
            BINARIES / "psql",
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            "--output=/dev/null",
            f"--file={fixture / DUMP_FILE}",
            address.render_as_string(hide_password=False),
        ],
        check=True,
    )
    with tarfile.open(fixture / ARTIFACTS_FILE) as archive:
        archive.extractall(lab.home, filter="data")
    facts: dict[str, Any] = json.loads((fixture / FACTS_FILE).read_text())
    return facts


@pytest.mark.parametrize("commit", COMMITS)
def test_a_run_of_an_older_version_is_trained_to_its_end(
    commit: str, server: PostgresServer
) -> None:
    lab = Lab(server, num_workers=1)
    facts = _load(lab, FIXTURES / commit)
    run_id, total = facts["run_id"], facts["total_steps"]
    engine = make_engine(lab.api.environment["PMAE_DATABASE_URL"], pooled=False)
    with engine.connect() as connection:
        query = "SELECT name, step, value FROM metrics"
        old = {(name, step): value for name, step, value in connection.exec_driver_sql(query)}
    engine.dispose()
    assert max(step for _, step in old) == facts["recorded_steps"] < total

    with lab:  # it migrates, then starts the present API and worker
        row = lab.wait_for_end(run_id)
        assert (row.state, row.reason) == ("succeeded", None)
        assert row.lease_number == 2
        trained = json.loads((lab.home / "artifacts" / "runs" / run_id / "spec.json").read_bytes())
        assert (trained["version"], trained["masking"]["count"]) == (2, "nearest")
        shown = lab.client.run(run_id).spec
        assert isinstance(shown, ExperimentSpec)
        assert shown.masking.count == "nearest"
        with lab.sessions() as session:
            points = session.scalars(select(MetricRow)).all()
            blocks = session.scalar(select(func.sum(MetricBlockRow.total)))
            evaluations = session.scalars(select(EvaluationRow.key)).all()
            history = session.scalars(
                select(RunEventRow.message).where(RunEventRow.run_number == row.number)
            ).all()
        for name in {name for name, _ in old}:
            spacing = 1 if (name, 1) in old else STEPS_PER_EPOCH
            steps = sorted(point.step for point in points if point.name == name)
            assert steps == list(range(spacing, total + 1, spacing)), f"the curve of {name}"
        assert blocks == len(points)
        assert evaluations == ["linear/encoder"]
        assert row.top1 is not None
        assert row.top1 > 0.15, "no better than chance"
        assert any(message.startswith("training resumed at step ") for message in history)
        _same_points(old, {(point.name, point.step): point.value for point in points})
        metrics = lab.client.metrics(run_id)
        assert {series.name: series.total for series in metrics.series} == Counter(
            point.name for point in points
        )
        kept = {found.name for found in lab.client.checkpoints(run_id, kind="kept")}
        assert kept == {f"step-{KEPT_STEP * number:08d}" for number in (1, 2, 3)}


def _same_points(old: dict[tuple[str, int], float], new: dict[tuple[str, int], float]) -> None:
    """Compare what was recorded before: what came after the checkpoint is computed again."""
    assert old.keys() <= new.keys()
    for key, value in old.items():
        exact = key[1] <= KEPT_STEP
        assert new[key] == (value if exact else pytest.approx(value, rel=0.05, abs=0.05)), key
