"""A backup while a run trains, on a real service; restored, the run comes to the same end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.backup.manifest import generations, read_generation
from api.backup.restore import verify
from pmae.spec import ExperimentSpec
from tests.faults.judge import Outcome, judge, undisturbed
from tests.faults.lab import Lab
from tests.faults.spec import run_of
from tests.support.commands import PMAE, installed_metadata
from tests.support.postgres import PostgresServer, postgres_server

pytestmark = [pytest.mark.slow, pytest.mark.stack]
SPEC: ExperimentSpec = run_of(240)
"""A rolling checkpoint every quarter of a second: the files change under the copier's hands."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the run comes to when nothing happens to it, and no service is there."""
    return undisturbed(SPEC, tmp_path_factory.mktemp("undisturbed"))


def _pmae(lab: Lab, metadata: dict[str, str], *arguments: str) -> str:
    """Run a command with the settings of the lab's API; what it told."""
    environment = {**os.environ, **lab.api.environment, **metadata, "COLUMNS": "200"}
    done = subprocess.run(
        [*PMAE, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_run_goes_on_after_the_restore_to_the_same_end(
    database: str, server: PostgresServer, expected: Outcome, tmp_path: Path
) -> None:
    metadata = installed_metadata(tmp_path / "site")
    backups = tmp_path / "backups"
    backups.mkdir()
    postgres = server if database == "postgresql" else None
    with Lab(postgres, num_workers=1) as lab:
        run_id = lab.submit(SPEC)
        lab.wait_for_training(run_id, step=100)
        for _ in range(2):
            told = _pmae(lab, metadata, "backup", str(backups), "--keep", "2")
            assert "damaged" not in told
        assert lab.row(run_id).state == "running", "the run was too short"
        refused = subprocess.run(
            [*PMAE, "restore", str(backups)],
            env={**os.environ, **lab.api.environment, **metadata},
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 1
        assert "in use" in refused.stderr or "not empty" in refused.stderr
    assert len(generations(backups)) == 2
    for folder in generations(backups):
        verify(read_generation(folder), lambda _line: None)

    restored = Lab(postgres, num_workers=1)
    told = _pmae(restored, metadata, "restore", str(backups))
    assert f"1 of them continue from a checkpoint: {run_id}" in told
    with restored:
        row = judge(restored, run_id, expected)
        assert row.lease_number == 2
        history = [entry.message for entry in restored.client.history(run_id).items]
        assert any(message.startswith("restored from the backup of") for message in history)
        assert any(message.startswith("training resumed at step") for message in history)
