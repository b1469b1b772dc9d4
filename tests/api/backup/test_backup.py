"""``pmae backup``: what a generation holds, and what happens beside it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.backup import commands, create
from api.backup.files import ArtifactCopier
from api.backup.manifest import BackupError, generations, read_generation
from api.backup.restore import verify
from api.db.revision import revisions
from pmae import __version__
from tests.api.backup.conftest import Service
from tests.support.commands import PMAE, installed_metadata, run_pmae
from tests.support.waiting import wait_until


def test_a_generation_holds_the_database_and_every_file_with_its_digest(
    filled: Service, tmp_path: Path
) -> None:
    made = filled.back_up(tmp_path / "backups")
    manifest = made.generation.manifest
    assert (manifest.version, manifest.database.revision) == (__version__, revisions()[-1])
    assert manifest.database.kind == filled.engine.dialect.name
    assert (manifest.num_runs, manifest.num_files) == (3, len(filled.files()))
    listed = {entry.path: entry for entry in made.generation.files()}
    assert listed.keys() == filled.files().keys()
    for path, data in filled.files().items():
        copy = made.generation.artifacts / path
        live = filled.settings.artifact_dir / path
        assert copy.read_bytes() == data
        assert copy.stat().st_ino != live.stat().st_ino, "linked to the live store"
        assert copy.stat().st_mtime_ns == live.stat().st_mtime_ns
        assert copy.stat().st_mode == live.stat().st_mode
    verify(made.generation, print)
    names = [path.name for path in (tmp_path / "backups").iterdir() if path.is_dir()]
    assert names == [made.generation.folder.name]


def test_unchanged_files_are_links_to_the_generation_before(
    filled: Service, tmp_path: Path
) -> None:
    first = filled.back_up(tmp_path / "backups").generation
    (running,) = [path for path in filled.files() if path.endswith("events.jsonl")]
    with (filled.settings.artifact_dir / running).open("ab") as file:
        file.write(b"more")
    later = filled.back_up(tmp_path / "backups")
    changed = {running}
    for path in filled.files():
        same = (first.artifacts / path).samefile(later.generation.artifacts / path)
        assert same is (path not in changed), path
    assert later.copied.num_linked == len(filled.files()) - 1
    assert (first.artifacts / running).read_bytes() + b"more" == (
        later.generation.artifacts / running
    ).read_bytes()
    shutil.rmtree(first.folder)
    verify(later.generation, print)


def test_a_file_that_was_lost_from_the_generation_before_is_copied_again(
    filled: Service, tmp_path: Path
) -> None:
    first = filled.back_up(tmp_path / "backups").generation
    lost = next(entry for entry in first.files() if entry.size > 1000)
    (first.artifacts / lost.path).unlink()
    verify(filled.back_up(tmp_path / "backups").generation, print)


def test_keep_removes_the_oldest_after_success(filled: Service, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    made = [filled.back_up(folder).generation.folder for _ in range(3)]
    (folder / "2020-01-01T00-00-00Z").mkdir()  # somebody's own: no manifest
    newest = filled.back_up(folder, keep=2)
    assert newest.removed == made[:2]
    assert generations(folder) == [made[2], newest.generation.folder]
    assert (folder / "2020-01-01T00-00-00Z").is_dir()
    verify(newest.generation, print)


def test_what_the_database_does_not_know_is_left_out(filled: Service, tmp_path: Path) -> None:
    deleted = filled.add_run("succeeded", deleted_at=1e9)
    unknown = filled.settings.runs_dir / "0123456789ab"
    unknown.mkdir()
    (unknown / "spec.json").touch()
    made = filled.back_up(tmp_path / "backups")
    assert not [e.path for e in made.generation.files() if unknown.name in e.path]
    assert not [e.path for e in made.generation.files() if deleted.id in e.path]
    assert made.generation.manifest.num_runs == 4


def test_a_checkpoint_that_is_being_removed_is_left_out_as_a_whole(
    service: Service, tmp_path: Path
) -> None:
    run = service.add_running()
    service.add_checkpoint(run, 1)
    (service.add_checkpoint(run, 2, kind="latest") / "model.safetensors").unlink()
    made = service.back_up(tmp_path / "backups")
    kept = {Path(e.path).parent.name for e in made.generation.files() if "step-" in e.path}
    assert kept == {"step-00000001"}


def test_a_broken_checkpoint_is_kept_and_named(service: Service, tmp_path: Path) -> None:
    folder = service.add_checkpoint(service.add_run("succeeded", lease_number=1), 1)
    (folder / "model.safetensors").write_bytes(b"other")
    made = service.back_up(tmp_path / "backups")
    assert [Path(path).name for path in made.copied.broken] == ["model.safetensors"]
    verify(made.generation, print)


def test_a_pointer_to_a_basis_that_is_gone_is_left_out(service: Service, tmp_path: Path) -> None:
    service.add_basis("a" * 64)
    shutil.rmtree(service.add_basis("b" * 64))
    made = service.back_up(tmp_path / "backups")
    assert {e.path for e in made.generation.files() if "fits" in e.path} == {
        f"bases/fits/{'a' * 64}-key.json"
    }


def test_a_rolling_checkpoint_that_is_replaced_meanwhile_is_followed(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer writes the next one, then removes the old: here after the copier listed it."""
    run = service.add_running()
    old = service.add_checkpoint(run, 1, kind="latest")
    copy = ArtifactCopier._copy_checkpoint

    def replaced_first(self: ArtifactCopier, folder: Path) -> bool:
        if folder == old and old.exists():
            service.add_checkpoint(run, 2, kind="latest", row=False)
            shutil.rmtree(old)
        return copy(self, folder)

    monkeypatch.setattr(ArtifactCopier, "_copy_checkpoint", replaced_first)
    made = service.back_up(tmp_path / "backups")
    kept = {Path(e.path).parent.name for e in made.generation.files() if "step-" in e.path}
    assert kept == {"step-00000002"}


def test_a_killed_backup_is_none_and_the_next_one_tidies_up(
    filled: Service, tmp_path: Path
) -> None:
    big = filled.add_run("succeeded", lease_number=1)
    folder = filled.add_checkpoint(big, 1)
    with (folder / "large").open("wb") as file:
        file.truncate(2_000_000_000)
    backups = tmp_path / "backups"
    backups.mkdir()
    process = subprocess.Popen(
        [*PMAE, "backup", str(backups)],
        env={**os.environ, **filled.environment, **installed_metadata(tmp_path / "site")},
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: any(backups.glob(".partial-*/artifacts")), "the first copied file")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(backups.glob(".partial-*"))
    assert generations(backups) == []
    (folder / "large").unlink()
    made = filled.back_up(backups)
    verify(made.generation, print)
    assert list(backups.glob(".partial-*")) == []


def test_two_at_once_are_refused(filled: Service, tmp_path: Path) -> None:
    with create._locked(tmp_path), pytest.raises(BackupError, match="another backup into"):
        filled.back_up(tmp_path)
    filled.back_up(tmp_path)


def test_folders_that_cannot_hold_a_backup_are_refused(
    filled: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = filled.settings.artifact_dir / "backups"
    inside.mkdir()
    link = tmp_path / "link"
    link.symlink_to(inside)
    for folder in (inside, link):
        with pytest.raises(BackupError, match="is in the artifact folder"):
            create.make_backup(filled.engine, filled.settings, folder, keep=None, tell=print)
    with pytest.raises(BackupError, match="create it first"):
        create.make_backup(filled.engine, filled.settings, tmp_path / "no", keep=None, tell=print)
    monkeypatch.setattr(create, "_SPARE_BYTES", shutil.disk_usage(tmp_path).total)
    with pytest.raises(BackupError, match="free, and the files that changed since"):
        filled.back_up(tmp_path / "backups")
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [".lock"]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root can mount a small disk"
)
def test_a_full_disk_is_told_and_nothing_is_left(filled: Service, tmp_path: Path) -> None:
    """The disk is real, and full before the database is copied."""
    filled.add_points(filled.add_run(), 20_000)
    backups = tmp_path / "backups"
    backups.mkdir()
    script = 'mount -t tmpfs -o size=64k tmpfs "$0" && "$@"; status=$?; ls -A "$0"; exit $status'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(backups), *PMAE, "backup", str(backups)],
        env={**os.environ, **filled.environment, **installed_metadata(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{backups} is full; this backup was removed" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.split() == [".lock"]


def test_a_schema_of_another_version_is_refused(filled: Service, tmp_path: Path) -> None:
    with filled.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BackupError, match=r"has the schema 9999, and pmae .* knows 0001 to"):
        filled.back_up(tmp_path / "backups")


def test_the_command(filled: Service, tmp_path: Path) -> None:
    environment = filled.environment | installed_metadata(tmp_path / "site")
    backups = tmp_path / "backups"
    backups.mkdir()
    done = run_pmae(["backup", str(backups), "--keep", "1"], environment)
    assert done.returncode == 0, done.stderr
    (generation,) = generations(backups)
    assert done.stdout.strip() == str(generation)
    assert "3 runs" in done.stderr
    again = run_pmae(["backup", str(backups), "--keep", "1"], environment)
    assert "older backups removed: 1" in again.stderr
    for arguments, words in (
        (["--frequently"], "No such option"),
        (["--keep", "0"], "greater than or equal to 1"),
        (["--at", "25:00"], "expected a time of day as HH:MM, got '25:00'"),
    ):
        refused = run_pmae(["backup", str(backups), *arguments], environment)
        assert refused.returncode != 0
        assert words in refused.stderr
        assert "Traceback" not in refused.stderr
    nowhere = {**environment, "PMAE_HOME": str(tmp_path / "x")}
    nowhere["PMAE_DATABASE_URL"] = f"sqlite:///{tmp_path / 'x.sqlite3'}"
    assert "there is no database" in run_pmae(["backup", str(backups)], nowhere).stderr
    assert read_generation(generations(backups)[0]).manifest.num_runs == 3


def test_every_day_at_a_time(
    filled: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The folder is not there in the first night; a failure does not end the rest."""
    backups, nights = tmp_path / "backups", iter(range(3))

    def soon(now: datetime, hour: int, minute: int) -> datetime:
        assert (hour, minute) == (2, 30)
        if next(nights) == 1:
            backups.mkdir()
        return now + timedelta(seconds=0.1)

    monkeypatch.setattr(commands, "_next", soon)
    for name, value in filled.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StopIteration):
        commands.back_up(backups, at="02:30")
    assert len(generations(backups)) == 2
    told = capsys.readouterr().err
    assert told.count("the next backup is made at") == 3
    assert told.count("no backup was made: ") == 1


def test_the_next_time_of_day() -> None:
    noon = datetime(2026, 11, 28, 12, 0, tzinfo=UTC).astimezone()
    later = commands._next(noon, noon.hour, 30)
    assert later - noon == timedelta(minutes=30)
    assert commands._next(noon, noon.hour, 0) - noon == timedelta(days=1)
