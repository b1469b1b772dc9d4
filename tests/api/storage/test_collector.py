"""What ``pmae gc`` removes, and above all what it leaves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.migrate import upgrade
from api.db.session import make_engine, make_sessions
from api.db.settings import ServiceSettings
from api.db.tables import CheckpointRow, RunRow
from api.storage.collector import find_garbage, remove_garbage
from api.storage.garbage import Garbage, GarbageError
from pmae.presets import get_preset
from pmae.runs.layout import RunDir
from pmae.spec import resolve
from tests.support.commands import installed_metadata, run_pmae

Sessions = sessionmaker[Session]
OLD = time.time() - 10 * 86_400


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> ServiceSettings:
    return ServiceSettings(home=tmp_path / "home", database_url=database_url)


class Disk:
    """Runs and files of a service, made as its processes make them."""

    def __init__(self, sessions: Sessions, settings: ServiceSettings) -> None:
        self.sessions = sessions
        self.settings = settings

    def run(self, state: str, **values: Any) -> str:
        """A run with a spec file; its id."""
        with self.sessions.begin() as session:
            row = run_states.submit(session, spec=resolve(get_preset("quickstart").spec))
        values |= {"state": state}
        with self.sessions.begin() as session:
            session.execute(update(RunRow).where(RunRow.number == row.number).values(**values))
        self.file(self.dir(row.id).spec)
        return row.id

    def dir(self, run_id: str) -> RunDir:
        return RunDir(self.settings.runs_dir / run_id)

    def file(self, path: Path, content: bytes = b"x" * 100) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def basis(self, digest: str) -> Path:
        """A basis and the pointer to it."""
        folder = self.settings.bases_dir / digest
        self.file(folder / "basis.safetensors")
        pointer = {"basis": digest, "key": {}}
        self.file(folder.parent / "fits" / f"{digest}-key.json", json.dumps(pointer).encode())
        return folder

    def age(self) -> None:
        """Let everything that is there now be ten days old."""
        for path in self.settings.artifact_dir.rglob("*"):
            os.utime(path, (OLD, OLD))

    def collect(self, **options: Any) -> list[Garbage]:
        found = find_garbage(self.sessions, self.settings, **options)
        return remove_garbage(self.sessions, self.settings, found)

    def everything(self) -> set[Path]:
        return set(self.settings.artifact_dir.rglob("*"))


@pytest.fixture
def disk(settings: ServiceSettings) -> Iterator[Disk]:
    engine = make_engine(settings.sqlalchemy_url)
    yield Disk(make_sessions(engine), settings)
    engine.dispose()


def _half_written(disk: Disk, run_id: str) -> list[Path]:
    lease = disk.dir(run_id).lease(1)
    disk.file(lease.events)
    disk.file(lease.log)
    disk.file(lease.checkpoints / "step-00000001" / "model.safetensors")
    return [
        disk.file(lease.checkpoints / ".step-00000002.abc" / "model.safetensors").parent,
        disk.file(lease.latest / ".step-00000003.abc" / "model.safetensors").parent,
        disk.file(disk.dir(run_id).path / ".spec.json.abc"),
    ]


def test_half_written_files_go_of_runs_that_have_ended_only(disk: Disk) -> None:
    going = _half_written(disk, disk.run("failed"))
    staying = [
        path for state in ("queued", "running") for path in _half_written(disk, disk.run(state))
    ]
    disk.age()
    young = _half_written(disk, disk.run("cancelled"))
    pinned = disk.file(going[0].parent / ".removed-step-00000009" / "pinned").parent
    os.utime(pinned, (OLD, OLD))
    before = disk.everything()

    found = find_garbage(disk.sessions, disk.settings)
    assert {garbage.path for garbage in found} == set(going)
    assert {garbage.size for garbage in found} == {100}
    assert disk.everything() == before, "looking changes nothing"

    assert {garbage.path for garbage in disk.collect()} == set(going)
    left = before - disk.everything()
    assert {path for path in left if path.parent not in left} == set(going)
    assert all(path.exists() for path in [*staying, *young, pinned])
    assert disk.collect() == [], "again: nothing is left to do"


def test_what_is_left_of_deleted_runs_goes_bytes_then_rows(disk: Disk) -> None:
    run_id, other = disk.run("succeeded"), disk.run("succeeded")
    with disk.sessions.begin() as session:
        run_states.mark_deleted(session, run_id)
    (removed,) = disk.collect()
    assert (removed.kind, removed.size) == ("deleted run", 100)
    assert not disk.dir(run_id).path.exists()
    with disk.sessions() as session:
        assert session.scalars(select(RunRow.id)).all() == [other]


def test_folders_of_unknown_runs_go_when_they_are_old(disk: Disk) -> None:
    known = disk.run("queued")
    old = disk.file(disk.settings.runs_dir / "0ld" / "lease-0001" / "train.log").parent.parent
    disk.age()
    young = disk.file(disk.settings.runs_dir / "y0ung" / "train.log").parent
    assert [garbage.path for garbage in disk.collect()] == [old]
    assert young.is_dir()
    assert disk.dir(known).path.is_dir()
    assert [g.path for g in disk.collect(min_age_seconds=-1)] == [young]


def test_another_services_database_removes_nothing(disk: Disk) -> None:
    disk.file(disk.settings.runs_dir / "somebodys" / "spec.json")
    disk.age()
    before = disk.everything()
    with pytest.raises(GarbageError, match="PMAE_DATABASE_URL"):
        disk.collect()
    assert disk.everything() == before


def test_bases_that_nobody_names_go_with_their_pointers(disk: Disk) -> None:
    named, in_checkpoint, unused = (disk.basis(name) for name in ("aa", "bb", "cc"))
    stray = disk.file(disk.settings.bases_dir / ".cc.tmp" / "basis.safetensors").parent
    disk.run("failed", basis_digest=named.name)
    lease = disk.dir(disk.run("succeeded")).lease(1)
    config = json.dumps({"basis_digest": in_checkpoint.name}).encode()
    disk.file(lease.checkpoints / "step-00000001" / "config.json", config)
    disk.age()
    young = disk.basis("dd")

    assert disk.collect(keep_bases=True) == []
    assert {garbage.path for garbage in disk.collect()} == {unused, stray}
    assert all(folder.is_dir() for folder in (named, in_checkpoint, young))
    fits = {path.name for path in (disk.settings.bases_dir / "fits").iterdir()}
    assert fits == {"aa-key.json", "bb-key.json", "dd-key.json"}
    assert [path.name for path in disk.settings.bases_dir.glob(".*")] == []


def test_no_basis_goes_while_a_run_has_not_said_which_it_uses(disk: Disk) -> None:
    unused = disk.basis("aa")
    run_id = disk.run("queued")
    disk.age()
    (found,) = find_garbage(disk.sessions, disk.settings)
    with disk.sessions.begin() as session:
        claimed = run_states.claim(session, worker="w", lease_seconds=60)
    assert claimed is not None
    assert claimed.run_id == run_id
    assert find_garbage(disk.sessions, disk.settings) == []
    assert remove_garbage(disk.sessions, disk.settings, [found]) == [], "claimed in between"
    assert unused.is_dir()


def test_a_run_that_is_resumed_in_between_keeps_its_files(disk: Disk) -> None:
    run_id = disk.run("failed")
    going = _half_written(disk, run_id)
    disk.age()
    found = find_garbage(disk.sessions, disk.settings)
    assert len(found) == len(going)
    with disk.sessions.begin() as session:
        run_states.resume(session, run_id, actor="api")
    assert remove_garbage(disk.sessions, disk.settings, found) == []
    assert all(path.exists() for path in going)


def test_of_a_run_that_succeeded_no_rolling_checkpoint_is_needed(disk: Disk) -> None:
    rolling = {}
    for state in ("succeeded", "failed", "running"):
        run_id = disk.run(state)
        lease = disk.dir(run_id).lease(1)
        rolling[state] = disk.file(lease.latest / "step-00000005" / "model.safetensors").parent
        with disk.sessions.begin() as session:
            number = session.scalar(select(RunRow.number).where(RunRow.id == run_id))
            facts: dict[str, Any] = {"files": {}, "metrics": {}, "created_at": 1.0, "epoch": 1.0}
            session.add(
                CheckpointRow(
                    id=f"{run_id}-00000005",
                    run_number=number,
                    name="step-00000005",
                    kind="latest",
                    lease_number=1,
                    step=5,
                    **facts,
                )
            )
    (removed,) = disk.collect()
    assert removed.path == rolling["succeeded"]
    assert rolling["failed"].is_dir()
    assert rolling["running"].is_dir()
    with disk.sessions() as session:
        rows = session.scalars(select(CheckpointRow.id)).all()
    assert len(rows) == 2
    assert f"{removed.run_id}-00000005" not in rows


def test_the_command_says_what_would_go_and_how_many_bytes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = installed_metadata(tmp_path / "site") | {"PMAE_HOME": str(home)}
    nothing = run_pmae(["gc"], environment)
    assert nothing.returncode == 1
    assert "there is no database" in nothing.stderr
    assert not home.exists(), "and none was made"

    settings = ServiceSettings(home=home)
    upgrade(settings.sqlalchemy_url)
    engine = make_engine(settings.sqlalchemy_url)
    disk = Disk(make_sessions(engine), settings)
    (going, *_) = _half_written(disk, disk.run("failed"))
    disk.age()
    engine.dispose()
    dry = run_pmae(["gc", "--dry-run"], environment)
    assert dry.returncode == 0
    header, *rows = (line.split("\t") for line in dry.stdout.splitlines())
    assert header == ["what", "bytes", "where"]
    assert str(going) in {path for _, _, path in rows}
    assert sum(int(size) for _, size, _ in rows) == 300
    assert f"{len(rows)} of these would be removed, 300 bytes" in dry.stderr
    assert going.is_dir()
    real = run_pmae(["gc"], environment)
    assert str(going.name) in real.stdout.replace("\n", "")
    assert not going.exists()
    assert "nothing to remove" in run_pmae(["gc"], environment).stderr
