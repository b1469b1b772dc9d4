"""Backups while rows and files change under them: whatever is restored holds together."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import delete, select

from api.backup.manifest import generations, read_generation
from api.backup.restore import verify
from api.db import run_states
from api.db.tables import CheckpointRow, RunRow
from api.storage.collector import find_garbage, remove_garbage
from api.storage.deletion import finish_deletions
from pmae.runs.layout import RunDir
from tests.api.backup.conftest import Service

NUM_BACKUPS = 4


def _roll(service: Service, run: RunRow, step: int, older: Path | None) -> Path:
    """What trainer and recorder do: the next rolling checkpoint, its row, then the old one goes."""
    newest = service.add_checkpoint(run, step, kind="latest")
    if older is not None:
        with service.sessions.begin() as session:
            session.execute(
                delete(CheckpointRow).where(
                    CheckpointRow.run_number == run.number, CheckpointRow.name == older.name
                )
            )
        shutil.rmtree(older)
    return newest


def _train(service: Service, stopping: threading.Event) -> int:
    """Write rolling checkpoints and events until it is told to stop; how many."""
    run = service.add_running()
    rolling: Path | None = None
    step = 0
    while not stopping.is_set():
        step += 1
        rolling = _roll(service, run, step, rolling)
        with service.run_dir(run.id).lease(1).events.open("ab") as events:
            events.write(b'{"type":"metrics"}\n')
    return step


def _make_and_delete(service: Service, stopping: threading.Event) -> int:
    """Make runs with checkpoints and delete each second one, and collect garbage; how many."""
    made = 0
    while not stopping.is_set():
        made += 1
        run = service.add_run("succeeded", lease_number=1)
        service.add_basis(hashlib.sha256(run.id.encode()).hexdigest())
        for step in (1, 2, 3):
            service.add_checkpoint(run, step)
        if made % 2:
            with service.sessions.begin() as session:
                run_states.mark_deleted(session, run.id)
            finish_deletions(service.sessions, service.settings.runs_dir)
        found = find_garbage(service.sessions, service.settings, min_age_seconds=0)
        remove_garbage(service.sessions, service.settings, found)
    return made


def test_what_is_restored_holds_together(
    service: Service, new_service: Callable[[], Service], tmp_path: Path
) -> None:
    service.add_checkpoint(service.add_run("succeeded", lease_number=1), 7)
    backups, stopping = tmp_path / "backups", threading.Event()
    with ThreadPoolExecutor(2) as pool:
        at_work = [pool.submit(work, service, stopping) for work in (_train, _make_and_delete)]
        try:
            for _ in range(NUM_BACKUPS):
                assert service.back_up(backups).copied.broken == []
        finally:
            stopping.set()
        assert all(work.result() > NUM_BACKUPS for work in at_work)
    assert len(generations(backups)) == NUM_BACKUPS
    for folder in generations(backups):
        generation = read_generation(folder)
        verify(generation, lambda _line: None)
        restored = new_service()
        restored.restore(generation)
        _check(restored)
    assert list(restored.settings.runs_dir.rglob("latest/step-*/manifest.json"))


def _check(service: Service) -> None:
    """Every checkpoint of the database is on the disk, as its row says; every run is known."""
    with service.sessions() as session:
        ids = set(session.scalars(select(RunRow.id)))
        rows = session.execute(
            select(CheckpointRow, RunRow.id)
            .join(RunRow, RunRow.number == CheckpointRow.run_number)
            .where(RunRow.deleted_at.is_(None))
        ).all()
    assert rows
    for checkpoint, run_id in rows:
        folder = RunDir(service.settings.runs_dir / run_id).checkpoint(checkpoint.name)
        assert folder is not None
        for name, facts in checkpoint.files.items():
            data = (folder / name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    assert {path.name for path in service.settings.runs_dir.iterdir()} <= ids
    for pointer in (service.settings.bases_dir / "fits").glob("*.json"):
        assert (service.settings.bases_dir / pointer.name.removesuffix("-key.json")).is_dir()
    for events in service.settings.runs_dir.rglob("events.jsonl"):
        assert events.read_bytes().startswith(b'{"type":"stage"')
