"""The trail of who changed what."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from api.audit.entries import Attempt, forget_old
from api.audit.writer import AuditWriter, write_entries
from api.db.session import make_engine, make_sessions
from api.db.tables import AuditRow
from pmae.client import ApiError, PmaeClient
from pmae.schema.access import AuditEntry
from tests.api.auth.conftest import LockedApi
from tests.api.live import DIGITS
from tests.support.commands import installed_metadata, run_pmae
from tests.support.waiting import wait_until


def trail(root: PmaeClient, count: int) -> list[AuditEntry]:
    """The newest entries, when there are so many: answers do not wait for them."""
    wait_until(lambda: len(root.audit().items) >= count, f"{count} entries")
    return root.audit().items


def test_each_write_is_recorded_refused_ones_too(locked: LockedApi) -> None:
    live = locked.live
    with locked.client("root", "admin") as root, locked.client("ada", "submitter") as ada:
        run = ada.submit(DIGITS)
        with pytest.raises(ApiError):
            ada.drain("worker")
        asked = {"X-Request-ID": "mine-1"}
        live.client.post(f"/runs/{run.id}/cancel?secret=s3cret", headers=asked)
        live.client.post("/nowhere")
        ada.runs()
        entries = {entry.operation: entry for entry in trail(root, 4)}
    told = {(e.actor, e.role, e.operation, e.method, e.path, e.status) for e in entries.values()}
    assert told == {
        ("ada", "submitter", "submit_run", "POST", "/api/v1/runs", 202),
        ("ada", "submitter", "drain_worker", "POST", "/api/v1/workers/worker/drain", 403),
        (None, None, "cancel_run", "POST", f"/api/v1/runs/{run.id}/cancel", 401),
        (None, None, "unknown", "POST", "/api/v1/nowhere", 401),
    }
    assert entries["cancel_run"].request_id == "mine-1"
    assert {entry.address for entry in entries.values()} == {"127.0.0.1"}
    assert "s3cret" not in str(entries)


def test_posts_that_only_read_are_recorded_when_they_are_refused(locked: LockedApi) -> None:
    run = locked.live.add_run()
    locked.live.add_checkpoint(run, {"model.safetensors": b"x"})
    with locked.client("root", "admin") as root:
        root.download_links(f"{run.id}-00000640")
        locked.live.client.post(f"/checkpoints/{run.id}-00000640/links", json={})
        (entry,) = trail(root, 1)
    assert (entry.operation, entry.status) == ("create_links", 401)


def test_pages_and_the_filter(locked: LockedApi) -> None:
    with locked.client("root", "admin") as root:
        rows = [
            {
                "at": 1e9 + number,
                "actor": "ada" if number % 2 else "bob",
                "role": "submitter",
                "operation": "submit_run",
                "method": "POST",
                "path": "/api/v1/runs",
                "status": 202,
                "request_id": str(number),
                "address": "::1",
            }
            for number in range(10)
        ]
        with locked.live.sessions.begin() as session:
            session.execute(insert(AuditRow), rows)
        page = root.audit(limit=4, actor="ada")
        assert [entry.request_id for entry in page.items] == ["9", "7", "5", "3"]
        page = root.audit(limit=4, actor="ada", cursor=page.next_cursor)
        assert [entry.request_id for entry in page.items] == ["1"]
        assert page.next_cursor is None
        with pytest.raises(ApiError, match="cursor"):
            root.audit(cursor="x")


def test_a_write_does_not_fail_with_its_entry(
    locked: LockedApi, caplog: pytest.LogCaptureFixture
) -> None:
    with locked.live.sessions.begin() as session:
        session.execute(text("DROP TABLE audit_log"))
    caplog.set_level(logging.ERROR, logger="api.audit.entries")
    with locked.client("ada", "submitter") as ada:
        run = ada.submit(DIGITS)
        assert run.owner == "ada"
    wait_until(lambda: "the audit trail lacks" in caplog.text, "the log's line")
    assert "submit_run" in caplog.text


def test_what_no_database_stores_is_recorded_all_the_same(locked: LockedApi) -> None:
    with locked.client("root", "admin") as root:
        locked.live.client.post("/workers/a%00b%ff/drain")
        (entry,) = trail(root, 1)
    assert entry.path.startswith("/api/v1/workers/a%00b")


def test_entries_that_come_together_are_all_there(database_url: str) -> None:
    engine = make_engine(database_url)
    sessions = make_sessions(engine)
    attempts = [
        Attempt(None, "submit_run", "POST", "/api/v1/runs", 401, str(number), "::1")
        for number in range(100)
    ]
    # Longer than PostgreSQL's column: the others are written without it.
    attempts[7] = replace(attempts[7], request_id="x" * 65)
    with AuditWriter(sessions) as writer, ThreadPoolExecutor(8) as pool:
        list(pool.map(writer.add, attempts))
    with sessions() as session:
        found = sorted(session.scalars(select(AuditRow.request_id)))
    lacks = {"x" * 65} if engine.name == "postgresql" else set()
    assert found == sorted({attempt.request_id for attempt in attempts} - lacks)
    engine.dispose()


def test_gc_removes_what_is_old(tmp_path: Path, database_url: str) -> None:
    engine = make_engine(database_url)
    sessions = make_sessions(engine)
    attempt = Attempt(None, "submit_run", "POST", "/api/v1/runs", 401, "id", "::1")
    write_entries(sessions, [attempt] * 3)
    with sessions.begin() as session:
        session.execute(
            text("UPDATE audit_log SET at = :at WHERE id < 3"), {"at": time.time() - 9e5}
        )
    assert forget_old(sessions, 30, dry_run=False) == 0
    assert forget_old(sessions, 10, dry_run=True) == 2
    environment = installed_metadata(tmp_path / "site") | {
        "PMAE_HOME": str(tmp_path / "home"),
        "PMAE_DATABASE_URL": database_url,
        "PMAE_AUDIT_RETENTION_DAYS": "10",
    }
    collected = run_pmae(["gc"], environment)
    assert "2 entries of the audit trail were removed" in collected.stderr
    assert forget_old(sessions, 10, dry_run=True) == 0
    engine.dispose()
