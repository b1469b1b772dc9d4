"""Somebody migrates the database while an older worker, or an older API, goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.errors import SchemaError
from api.db.migrate import begin_migration
from api.db.run_states import Claim
from api.db.session import make_engine
from api.db.tables import MetricBlockRow, MetricRow, RunRow, WorkerRow
from api.queue.wake_up import WakeUpSender
from api.settings import ApiSettings
from pmae.runs.events import MetricsEvent, StartEvent, read_events
from pmae.runs.layout import LeaseDir, RunDir
from tests.faults.spec import run_of
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.test_database_at_start import HEAD, set_revision
from worker.recording.recorder import Recorder

pytestmark = pytest.mark.slow

Sessions = sessionmaker[Session]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a process of the service, whose output goes to ``tmp_path/NAME.log``."""
    settings = {
        "PMAE_HOME": str(tmp_path / "home"),
        "PMAE_DATABASE_URL": database_url,
        "PMAE_BROKER_URL": broker_url,
        "PMAE_HEARTBEAT_SECONDS": "0.5",
        "PMAE_RECONCILE_SECONDS": "0.5",
        "PMAE_REQUIRE_KEYS": "false",
        "OMP_NUM_THREADS": "1",
    }
    started: list[subprocess.Popen[bytes]] = []

    def begin(module: str, name: str, **others: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**os.environ, **settings, **others},
                stdout=log,
                stderr=log,
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _row(sessions: Sessions) -> RunRow:
    with sessions() as session:
        return session.scalars(select(RunRow)).one()


def _counts(sessions: Sessions) -> tuple[int, int]:
    """How many points there are, and how many the curves show."""
    with sessions() as session:
        points = session.scalar(select(func.count()).select_from(MetricRow))
        shown = session.scalar(select(func.sum(MetricBlockRow.total)))
    return points or 0, int(shown or 0)


@pytest.mark.timeout(600)
def test_a_worker_gives_back_what_it_runs_and_no_point_is_lost(
    start: Start, database_url: str, broker_url: str, sessions: Sessions, tmp_path: Path
) -> None:
    with sessions.begin() as session:
        run_id = run_states.submit(session, spec=run_of(120)).id
    with WakeUpSender(ApiSettings(broker_url=broker_url)) as sender:
        older = start("worker", "older", PMAE_WORKER_NAME="older")
        sender.send("pretrain")
        wait_until(lambda: _counts(sessions)[0] > 100, "training", seconds=180)

        set_revision(database_url, "9999")
        assert older.wait(timeout=120) == 1
        *_, told = (tmp_path / "older.log").read_text().splitlines()
        assert told.startswith("worker: the schema of the database has the revision 9999")
        assert "Traceback" not in (tmp_path / "older.log").read_text()
        row = _row(sessions)
        assert (row.state, row.attempt) == ("queued", 0)
        assert row.reason == "the worker gave it back; it will be resumed"
        points, shown = _counts(sessions)
        assert points == shown

        set_revision(database_url, HEAD)
        start("worker", "newer", PMAE_WORKER_NAME="newer")
        sender.send("pretrain")
        wait_until(lambda: _row(sessions).state == "succeeded", "the end", seconds=300)
    lease = RunDir(tmp_path / "home" / "artifacts" / "runs" / run_id).leases()[-1]
    events = list(read_events(lease.events))
    resumed = [event.resumed_step for event in events if isinstance(event, StartEvent)]
    assert len(resumed) == 2
    assert resumed[1] > 0
    told_points = {
        (name, event.step)
        for event in events
        if isinstance(event, MetricsEvent)
        for name in event.values
    }
    assert _counts(sessions) == (len(told_points), len(told_points))


def test_an_idle_worker_ends(start: Start, database_url: str, tmp_path: Path) -> None:
    worker = start("worker", "older")
    log = tmp_path / "older.log"
    wait_until(lambda: "ready" in log.read_text(), "the worker's start", seconds=120)
    set_revision(database_url, "0003")
    assert worker.wait(timeout=60) == 1
    *_, told = log.read_text().splitlines()
    assert f"has the revision 0003, and this version (0.1.0) needs {HEAD}" in told


def test_an_api_ends(start: Start, database_url: str, tmp_path: Path) -> None:
    api = start("api", "api", PMAE_API_PORT=str(free_port()), PMAE_LOG_FORMAT="json")
    log = tmp_path / "api.log"
    wait_until(lambda: "startup complete" in log.read_text(), "the API's start", seconds=120)
    set_revision(database_url, "9999")
    assert api.wait(timeout=60) != 0
    assert "the API ends: the schema of the database has the revision 9999" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_nothing_is_claimed_between_two_signs_of_life(
    start: Start, database_url: str, broker_url: str, sessions: Sessions, tmp_path: Path
) -> None:
    start("worker", "older", PMAE_HEARTBEAT_SECONDS="600", PMAE_LEASE_SECONDS="1800")
    log = tmp_path / "older.log"
    wait_until(lambda: "ready" in log.read_text(), "the worker's start", seconds=120)

    def seen() -> bool:
        with sessions() as session:
            row = session.scalars(select(WorkerRow)).one()
        return row.last_seen_at > row.started_at + 0.05  # at its start it took its name

    wait_until(seen, "its sign of life")
    set_revision(database_url, "9999")
    with sessions.begin() as session:
        run_states.submit(session, spec=run_of(2))
    with WakeUpSender(ApiSettings(broker_url=broker_url)) as sender:
        sender.send("pretrain")
    wait_until(lambda: "no run is claimed: the schema" in log.read_text(), "the refusal")
    row = _row(sessions)
    assert (row.state, row.lease_number) == ("queued", 0)


def test_nothing_is_recorded_on_another_schema(
    database_url: str, sessions: Sessions, claimed: Claim, tmp_path: Path
) -> None:
    lease = LeaseDir(tmp_path, 1)
    event = MetricsEvent(step=1, epoch=0.1, values={"loss": 1.0})
    lease.events.write_text(f"{event.model_dump_json()}\n")
    recorder = Recorder(sessions, claimed, lease)
    set_revision(database_url, "9999")
    with pytest.raises(SchemaError, match="9999"):
        recorder.record()
    assert _counts(sessions) == (0, 0)
    set_revision(database_url, HEAD)
    assert recorder.record()
    assert _counts(sessions) == (1, 1)


def test_what_comes_while_a_migration_is_under_way_waits_for_its_end(
    database_url: str, sessions: Sessions, claimed: Claim, tmp_path: Path
) -> None:
    """Whatever the migration has read by then, nothing is added to it the old way."""
    lease = LeaseDir(tmp_path, 1)
    event = MetricsEvent(step=1, epoch=0.1, values={"loss": 1.0})
    lease.events.write_text(f"{event.model_dump_json()}\n")
    engine = make_engine(database_url, pooled=False)
    with ThreadPoolExecutor(1) as pool, engine.connect() as migration:
        assert begin_migration(migration) == HEAD
        recording = pool.submit(Recorder(sessions, claimed, lease).record)
        assert wait([recording], timeout=0.5).not_done
        migration.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        migration.commit()
        with pytest.raises(SchemaError, match="9999"):
            recording.result(timeout=60)
    engine.dispose()
    assert _counts(sessions) == (0, 0)
