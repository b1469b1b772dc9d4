"""``pmae restore``: what a restored service is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from sqlalchemy import func, inspect, select

from api.backup.manifest import find_generation
from api.db import run_states
from api.db.migrate import upgrade
from api.db.tables import ApiKeyRow, CheckpointRow, RunEventRow, RunRow
from tests.api.backup.conftest import New, Service, flip, is_empty
from tests.api.db.older import downgrade
from tests.support.commands import installed_metadata, run_pmae


def _run(service: Service, run_id: str) -> RunRow:
    with service.sessions() as session:
        return session.scalars(select(RunRow).where(RunRow.id == run_id)).one()


def test_everything_is_as_it_was_but_for_the_runs_under_way(
    filled: Service, new_service: New, tmp_path: Path
) -> None:
    rows, files = filled.rows(), filled.files()
    made = filled.back_up(tmp_path / "backups")
    restored = new_service()
    settled = restored.restore(tmp_path / "backups")
    assert settled.left_out == []
    assert restored.files() == files
    for entry in made.generation.files():
        facts = (restored.settings.artifact_dir / entry.path).stat()
        assert (facts.st_mtime_ns, facts.st_mode & 0o777) == (entry.mtime_ns, entry.mode)
    (run_id,) = settled.reclaimed
    run = _run(restored, run_id)
    assert (run.state, run.worker, run.lease_until, run.attempt) == ("queued", None, None, 0)
    assert (run.lease_number, _run(filled, run_id).state) == (1, "running")
    new = restored.rows()
    for table in rows.keys() - {"runs", "run_events"}:
        assert new[table] == rows[table], table
    assert set(rows["run_events"]) < set(new["run_events"])
    (event,) = set(new["run_events"]) - set(rows["run_events"])
    assert "restored from the backup of 20" in " ".join(event)
    assert len(set(new["runs"]) ^ set(rows["runs"])) == 2


def test_ids_go_on_after_a_restore(filled: Service, new_service: New, tmp_path: Path) -> None:
    """Also where the newest rows had been deleted: streams go on from an id."""
    with filled.sessions.begin() as session:
        highest = session.scalar(select(func.max(RunEventRow.id))) or 0
        session.add(_event(highest_run(filled)))
        session.flush()
        session.delete(session.scalars(select(RunEventRow).order_by(RunEventRow.id.desc())).first())
    filled.back_up(tmp_path / "backups")
    restored = new_service()
    restored.restore(tmp_path / "backups")
    with restored.sessions.begin() as session:
        event = _event(highest_run(restored))
        session.add(event)
        session.flush()
        assert event.id > highest + 1
    assert restored.add_run().number > highest_run(filled)


def highest_run(service: Service) -> int:
    with service.sessions() as session:
        return session.scalar(select(func.max(RunRow.number))) or 0


def _event(number: int) -> RunEventRow:
    return RunEventRow(run_number=number, at=1.0, type="stage", actor="a", message="m", data={})


def test_a_run_that_was_started_again_meanwhile_gets_a_lease_of_its_own(
    service: Service, new_service: New, tmp_path: Path
) -> None:
    """The files are newer than the rows: nobody writes into the folder of an older lease."""
    run = service.add_running()
    service.add_checkpoint(run, 9, lease=3, row=False)
    service.back_up(tmp_path / "backups")
    restored = new_service()
    restored.restore(tmp_path / "backups")
    with restored.sessions.begin() as session:
        claimed = run_states.claim(session, worker="w", lease_seconds=60)
    assert claimed is not None
    assert (claimed.lease_number, claimed.attempt) == (4, 1)


def test_one_that_was_to_be_cancelled_is_cancelled(
    service: Service, new_service: New, tmp_path: Path
) -> None:
    run = service.add_running(cancel_requested=True, attempt=5)
    last = service.add_running(attempt=5)
    service.back_up(tmp_path / "backups")
    restored = new_service()
    restored.restore(tmp_path / "backups")
    assert _run(restored, run.id).state == "cancelled"
    assert (_run(restored, last.id).state, _run(restored, last.id).attempt) == ("queued", 4)


def test_checkpoints_whose_files_were_gone_are_left_out_and_named(
    filled: Service, new_service: New, tmp_path: Path
) -> None:
    with filled.sessions() as session:
        rolling = session.scalars(select(CheckpointRow).where(CheckpointRow.kind == "latest")).one()
    (folder,) = filled.settings.runs_dir.glob(f"*/*/latest/{rolling.name}")
    shutil.rmtree(folder)  # after the copy of the database, as far as the backup can know
    filled.back_up(tmp_path / "backups")
    restored = new_service()
    settled = restored.restore(tmp_path / "backups")
    assert settled.left_out == [rolling.id]
    with restored.sessions() as session:
        names = session.scalars(select(CheckpointRow.name)).all()
        told = session.scalars(
            select(RunEventRow.message).where(RunEventRow.type == "checkpoint")
        ).all()
    assert sorted(names) == ["step-00000010", "step-00000020"]
    assert [rolling.name in message for message in told] == [True]


def test_pins_are_those_of_the_files(filled: Service, new_service: New, tmp_path: Path) -> None:
    (mark,) = filled.settings.runs_dir.rglob("pinned")
    mark.unlink()
    filled.back_up(tmp_path / "backups")
    restored = new_service()
    restored.restore(tmp_path / "backups")
    with restored.sessions() as session:
        assert not any(session.scalars(select(CheckpointRow.pinned)))


def test_the_newest_generation_is_restored_unless_one_is_named(
    filled: Service, new_service: New, tmp_path: Path
) -> None:
    first = filled.back_up(tmp_path / "backups").generation
    filled.add_run()
    filled.back_up(tmp_path / "backups")
    for path, runs in ((tmp_path / "backups", 4), (first.folder, 3)):
        restored = new_service()
        restored.restore(find_generation(path))
        with restored.sessions() as session:
            assert session.scalar(select(func.count()).select_from(RunRow)) == runs


def test_a_database_without_tables_will_do(
    filled: Service, new_service: New, tmp_path: Path
) -> None:
    filled.back_up(tmp_path / "backups")
    restored = new_service()
    with restored.engine.begin() as connection:
        for table in reversed(inspect(connection).get_sorted_table_and_fkc_names()):
            if table[0]:
                connection.exec_driver_sql(f"DROP TABLE {table[0]}")
    if restored.engine.dialect.name == "sqlite":
        shutil.rmtree(restored.settings.home)  # nor is there a file
    restored.restore(tmp_path / "backups")
    assert restored.files() == filled.files()
    with restored.sessions() as session:
        assert session.scalars(select(ApiKeyRow.name)).all() == ["ada"]


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_a_backup_of_an_older_schema_is_migrated(
    service: Service, new_service: New, tmp_path: Path, revision: str
) -> None:
    run = service.add_run("succeeded", lease_number=1)
    service.add_checkpoint(run, 3)
    service.add_points(run, 200)
    downgrade(service.settings.sqlalchemy_url, revision)
    made = service.back_up(tmp_path / "backups")
    assert made.generation.manifest.database.revision == revision
    upgrade(service.settings.sqlalchemy_url)
    restored = new_service()
    restored.restore(tmp_path / "backups")
    assert restored.rows() == service.rows()
    assert len(restored.rows()["metric_blocks"]) == 4


def test_root_gives_the_files_to_the_owner_of_the_target(
    filled: Service, new_service: New, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    filled.back_up(tmp_path / "backups")
    restored = new_service()
    restored.settings.home.mkdir(exist_ok=True)
    os.chown(restored.settings.home, 1234, 1235)
    restored.restore(tmp_path / "backups")
    paths = [restored.settings.artifact_dir, *restored.settings.artifact_dir.rglob("*")]
    paths += list(restored.settings.home.glob("pmae.sqlite3"))
    assert {(p.stat().st_uid, p.stat().st_gid) for p in paths} == {(1234, 1235)}


def test_the_command(filled: Service, new_service: New, tmp_path: Path) -> None:
    made = filled.back_up(tmp_path / "backups").generation
    restored = new_service()
    environment = restored.environment | installed_metadata(tmp_path / "site")
    checked = run_pmae(["restore", str(tmp_path / "backups"), "--check"], environment)
    assert checked.returncode == 0, checked.stderr
    assert "is complete: 3 runs" in checked.stderr
    assert is_empty(restored)
    for arguments, words in (
        ([str(tmp_path)], "is not a backup; expected a folder with a manifest.json"),
        ([str(tmp_path / "backups"), "--force"], "No such option"),
        ([], "Missing argument 'DIR'"),
    ):
        refused = run_pmae(["restore", *arguments], environment)
        assert refused.returncode != 0
        assert words in refused.stderr
        assert "Traceback" not in refused.stderr
    done = run_pmae(["restore", str(made.folder)], environment)
    assert done.returncode == 0, done.stderr
    assert "is restored: 3 runs" in done.stderr
    again = run_pmae(["restore", str(made.folder)], environment)
    assert again.returncode == 1
    assert "the database is not empty: it holds 3 runs and 1 API keys" in again.stderr
    flip(next(made.artifacts.rglob("model.safetensors")))
    damaged = run_pmae(["restore", str(made.folder), "--check"], environment)
    assert "does not match the manifest" in damaged.stderr
