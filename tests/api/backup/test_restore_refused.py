"""``pmae restore``: what is refused, and what an interrupted one leaves."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from api.backup import restore
from api.backup.manifest import BackupError, Generation, find_generation, read_generation
from api.db.clock import database_now
from api.db.tables import RunRow, WorkerRow
from tests.api.backup.conftest import New, Service, change_manifest, flip, is_empty
from tests.support.commands import PMAE, installed_metadata, run_pmae


def test_a_newer_or_another_kind_is_refused(
    filled: Service, new_service: New, tmp_path: Path
) -> None:
    made = filled.back_up(tmp_path / "backups").generation
    dump = made.manifest.database.model_dump(mode="json")
    other = {"sqlite": "postgresql", "postgresql": "sqlite"}[dump["kind"]]
    for values, words in (
        ({"database": {**dump, "revision": "0999"}, "version": "9.1"}, "Restore it with pmae 9.1"),
        ({"format": 2, "version": "9.1"}, "in format 2; expected format 1"),
        ({"database": {**dump, "kind": other}}, "a backup is restored into the same kind"),
    ):
        copy = made.folder.with_name("2020-01-01T00-00-00Z")
        shutil.copytree(made.folder, copy)
        change_manifest(Generation(copy, made.manifest), **values)
        empty = new_service()
        with pytest.raises(BackupError, match=words):
            empty.restore(copy)
        assert is_empty(empty)
        shutil.rmtree(copy)


def _cut_list(generation: Generation) -> Path:
    path = generation.folder / "files.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))
    return path


def _lose(path: Path) -> Path:
    path.unlink()
    return path


TAMPERED: dict[str, Callable[[Generation], Path]] = {
    "a changed file": lambda g: flip(next(g.artifacts.rglob("model.safetensors"))),
    "a missing file": lambda g: _lose(next(g.artifacts.rglob("manifest.json"))),
    "a changed database": lambda g: flip(next((g.folder / "database").iterdir())),
    "a missing table": lambda g: _lose(max((g.folder / "database").iterdir())),
    "a shorter list": _cut_list,
    "no manifest": lambda g: _lose(g.folder / "manifest.json"),
    "half a manifest": lambda g: _half(g.folder / "manifest.json"),
}


def _half(path: Path) -> Path:
    os.truncate(path, path.stat().st_size // 2)
    return path


@pytest.mark.parametrize("what", TAMPERED)
def test_a_damaged_backup_is_refused_and_says_which_file(
    filled: Service, new_service: New, tmp_path: Path, what: str
) -> None:
    made = filled.back_up(tmp_path / "backups").generation
    damaged = TAMPERED[what](made)
    empty = new_service()
    with pytest.raises(BackupError) as refused:
        empty.restore(find_generation(made.folder))
    assert str(damaged.parent if what == "no manifest" else damaged) in str(refused.value)
    assert is_empty(empty)
    assert not (empty.settings.artifact_dir / ".restoring").exists()


def test_a_path_out_of_the_artifacts_is_refused(filled: Service, tmp_path: Path) -> None:
    made = filled.back_up(tmp_path / "backups").generation
    path = made.folder / "files.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).replace(b'"path":"runs/', b'"path":"runs/../../', 1)
    path.write_bytes(gzip.compress(lines))
    with pytest.raises(BackupError, match="is not a path of a run or a basis"):
        list(read_generation(made.folder).files())


def test_only_an_empty_service_is_restored_into(
    filled: Service, new_service: New, tmp_path: Path
) -> None:
    filled.back_up(tmp_path / "backups")
    with_run, with_key, with_files = new_service(), new_service(), new_service()
    with_run.add_run()
    shutil.rmtree(with_run.settings.artifact_dir)
    with_key.add_key("eve")
    with_files.add_basis("c" * 64)
    for service, words in (
        (with_run, "the database is not empty: it holds 1 runs"),
        (with_key, "the database is not empty: it holds 1 API keys"),
        (with_files, r"bases is not empty: it holds 2 entries"),
        (filled, "the database is not empty: it holds 3 runs and 1 API keys"),
    ):
        before = service.rows(), service.files()
        with pytest.raises(BackupError, match=words):
            service.restore(tmp_path / "backups")
        assert (service.rows(), service.files()) == before


def test_a_service_that_runs_is_refused(filled: Service, new_service: New, tmp_path: Path) -> None:
    filled.back_up(tmp_path / "backups")
    restored = new_service()
    with restored.engine.connect() as connection:
        connection.execute(select(RunRow.number)).all()
        with pytest.raises(BackupError, match="in use"):
            restored.restore(tmp_path / "backups")
    restored.restore(tmp_path / "backups")


def test_a_worker_that_was_heard_of_is_in_the_way(
    filled: Service, new_service: New, tmp_path: Path
) -> None:
    """It keeps no connection while it idles."""
    filled.back_up(tmp_path / "backups")
    restored = new_service()
    with restored.sessions.begin() as session:
        now = session.scalar(select(database_now()))
        session.add(
            WorkerRow(
                name="gpu1", host="h", pid=1, started_at=now, last_seen_at=now, kinds=[], devices=1
            )
        )
    with pytest.raises(BackupError, match="the worker gpu1"):
        restored.restore(tmp_path / "backups")
    with restored.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE workers SET last_seen_at = last_seen_at - 40")
    restored.restore(tmp_path / "backups")
    with restored.sessions() as session:
        assert session.scalars(select(WorkerRow)).all() == []


STAGES = ("_copy_file", "_load_database", "after the rows")


@pytest.mark.parametrize("stage", STAGES)
def test_a_restore_that_is_killed_begins_anew(
    filled: Service, new_service: New, tmp_path: Path, stage: str
) -> None:
    """SIGKILL in the middle of the files, before the database, and in its transaction."""
    filled.back_up(tmp_path / "backups")
    restored = new_service()
    script = f"""
import os, signal
from api.backup import restore, settle
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if {stage!r} == "after the rows":
    settle.run_states.reclaim_restored = die
elif {stage!r} == "_copy_file":
    copy, left = restore._copy_file, [3]
    def copy_some(*arguments):
        left[0] -= 1
        die() if left[0] < 0 else copy(*arguments)
    restore._copy_file = copy_some
else:
    restore._load_database = die
from pmae.cli import main
main()
"""
    environment = restored.environment | installed_metadata(tmp_path / "site")
    done = subprocess.run(
        [*PMAE[:3], script, "restore", str(tmp_path / "backups")],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with restored.sessions() as session:
        assert session.scalars(select(RunRow)).all() == []
    assert (restored.settings.artifact_dir / ".restoring").is_dir()
    again = run_pmae(["restore", str(tmp_path / "backups")], environment)
    assert again.returncode == 0, again.stderr
    assert "1 of them continue from a checkpoint" in again.stderr
    assert restored.files() == filled.files()
    assert not (restored.settings.artifact_dir / ".restoring").exists()
    assert [p.name for p in restored.settings.home.iterdir() if "restoring" in p.name] == []


def test_an_interrupted_restore_gives_nobody_elses_files_up(
    filled: Service, new_service: New, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.back_up(tmp_path / "backups")
    restored = new_service()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(restore, "_load_database", interrupted)
        with pytest.raises(KeyboardInterrupt):
            restored.restore(tmp_path / "backups")
    restored.add_basis("d" * 64)
    with pytest.raises(BackupError, match=r"bases is not empty: it holds 1 entries"):
        restored.restore(tmp_path / "backups")
    shutil.rmtree(restored.settings.bases_dir / ("d" * 64))
    restored.restore(tmp_path / "backups")
    assert restored.files() == filled.files()
