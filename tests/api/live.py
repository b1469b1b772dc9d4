"""A real server for the tests of the API, and rows and files for it to serve."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.clock import database_now
from api.db.metric_blocks import summarise
from api.db.session import make_engine, make_sessions
from api.db.tables import CheckpointRow, MetricRow, RunEventRow, RunRow, WorkerRow
from api.main import create_app
from api.settings import ApiSettings
from pmae.presets import get_preset
from pmae.runs.layout import RunDir
from pmae.schema import Problem
from pmae.spec import ExperimentSpec, resolve
from tests.support.waiting import wait_until

DIGITS = {"dataset": {"name": "digits"}}


def problem(response: httpx.Response, status: int) -> Problem:
    """What a request is refused with, as it is to be."""
    assert response.status_code == status, response.text
    return Problem.model_validate_json(response.content)


@dataclass(frozen=True)
class LiveApi:
    """A server that listens, and the database and folders behind it."""

    settings: ApiSettings
    sessions: sessionmaker[Session]
    client: httpx.Client
    url: str

    def submit(self, body: Mapping[str, Any] | None = None, **params: Any) -> str:
        """Submit a run over HTTP; its id."""
        response = self.client.post("/runs", json=body or DIGITS, params=params)
        assert response.status_code == 202, response.text
        run_id: str = response.json()["id"]
        return run_id

    def add_run(self, spec: ExperimentSpec | None = None, **values: Any) -> RunRow:
        """Put a run into the database, then change columns of it."""
        with self.sessions.begin() as session:
            row = run_states.submit(session, spec=resolve(spec or get_preset("quickstart").spec))
        if values:
            with self.sessions.begin() as session:
                session.execute(update(RunRow).where(RunRow.number == row.number).values(**values))
        return row

    def run_dir(self, run_id: str) -> RunDir:
        """Where the files of a run are."""
        return RunDir(self.settings.runs_dir / run_id)

    def add_metrics(self, run_number: int, name: str, values: list[float]) -> None:
        """Points at the steps 1, 2, ..."""
        rows = [
            {
                "run_number": run_number,
                "name": name,
                "step": step,
                "epoch": step / 10,
                "time": 1e9 + step,
                "value": value,
            }
            for step, value in enumerate(values, 1)
        ]
        self.add_points(rows)

    def add_points(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Points of one run, as a worker records them."""
        steps = [row["step"] for row in rows]
        with self.sessions.begin() as session:
            session.execute(insert(MetricRow), rows)
            names = {row["name"] for row in rows}
            summarise(session, rows[0]["run_number"], names, min(steps), max(steps))

    def add_event(self, run_number: int, message: str, *, state: str | None = None) -> int:
        """What a worker does: the run's row first, then the event, in one transaction."""
        with self.sessions.begin() as session:
            values = {"state": state} if state else {"cancel_requested": False}
            session.execute(update(RunRow).where(RunRow.number == run_number).values(**values))
            event = RunEventRow(
                run_number=run_number, at=1e9, type="stage", actor="w", message=message, data={}
            )
            session.add(event)
            session.flush()
            return event.id

    def add_worker(self, name: str = "w", **values: Any) -> None:
        """A worker that is up, idle, and takes pretraining on one device unless told otherwise."""
        facts = {"host": "h", "pid": 1, "kinds": ["pretrain"], "devices": 1} | values
        now = {"started_at": database_now(), "last_seen_at": database_now()}
        with self.sessions.begin() as session:
            session.execute(insert(WorkerRow).values(name=name, **now, **facts))

    def add_checkpoint(
        self, run: RunRow, files: Mapping[str, bytes], *, step: int = 640, kind: str = "kept"
    ) -> Path:
        """A checkpoint of lease 1, on disk and in the database; its folder."""
        name = f"step-{step:08d}"
        lease = self.run_dir(run.id).lease(1)
        folder = (lease.checkpoints if kind == "kept" else lease.latest) / name
        folder.mkdir(parents=True)
        facts = {
            file: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for file, data in files.items()
        }
        for file, data in files.items():
            (folder / file).write_bytes(data)
        (folder / "manifest.json").write_text(json.dumps({"name": name, "files": facts}))
        with self.sessions.begin() as session:
            session.add(
                CheckpointRow(
                    id=f"{run.id}-{step:08d}",
                    run_number=run.number,
                    name=name,
                    kind=kind,
                    lease_number=1,
                    step=step,
                    epoch=step / 10,
                    created_at=1e9,
                    files=facts,
                    metrics={},
                )
            )
        return folder

    def count_runs(self) -> int:
        """How many runs there are in the database."""
        with self.sessions() as session:
            return session.scalar(select(func.count()).select_from(RunRow)) or 0


class _Server(uvicorn.Server):
    """uvicorn without its two pauses of a tenth of a second at the end, which every test would pay.

    It looks that seldom whether it is to stop, and waits that long for answers on their way; here
    the clients have theirs.
    """

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            await asyncio.sleep(0.01)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        assert not sockets, "it listens on its own"
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:
                    await asyncio.sleep(0.01)
        for task in self.server_state.tasks:
            task.cancel()
        for server in self.servers:
            await server.wait_closed()
        await self.lifespan.shutdown()


@contextmanager
def live_api(settings: ApiSettings, *, port: int = 0) -> Iterator[LiveApi]:
    """Serve until the block ends; a stream that is open then is torn."""
    config = uvicorn.Config(
        create_app(settings),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    engine = make_engine(settings.sqlalchemy_url)
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the server's start")
        assert server.started
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=f"{url}/api/v1", timeout=60, trust_env=False) as client:
            yield LiveApi(settings, make_sessions(engine), client, url)
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        engine.dispose()
    assert not thread.is_alive(), "the server did not end"
